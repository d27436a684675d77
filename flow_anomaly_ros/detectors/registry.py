# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The detection methods by name."""

import dataclasses
import types
import typing

from flow_anomaly_ros.detectors.base import Detector
from flow_anomaly_ros.detectors.cainnflow.model import CainnFlowDetector
from flow_anomaly_ros.detectors.feature_fusion.model import FeatureFusionDetector
from flow_anomaly_ros.detectors.nf_bmr.model import NfBmrDetector
from flow_anomaly_ros.detectors.restoration.model import RestorationDetector
from flow_anomaly_ros.detectors.timenet.model import TimeNetDetector

METHODS: dict[str, type[Detector]] = {
    detector.method: detector
    for detector in (
        RestorationDetector,
        CainnFlowDetector,
        NfBmrDetector,
        FeatureFusionDetector,
        TimeNetDetector,
    )
}


class ConfigError(ValueError):
    """A method or its configuration is not usable; the message is one line."""


def find_method(name: str) -> type[Detector]:
    """Return the detector class of a method name.

    Raises:
        ConfigError: Unknown name.
    """
    if name not in METHODS:
        msg = f'unknown method {name!r}: choose one of {", ".join(sorted(METHODS))}'
        raise ConfigError(msg)
    return METHODS[name]


def find_preset(method: str, name: str) -> dict[str, object]:
    """Return the options of a method's preset.

    Raises:
        ConfigError: Unknown method or preset.
    """
    presets = find_method(method).presets
    if name not in presets:
        msg = f'{method} has no preset {name!r}: choose one of {", ".join(sorted(presets))}'
        raise ConfigError(msg)
    return dict(presets[name])


def build_config(method: str, values: dict[str, object]) -> object:
    """Make a method's configuration from plain values, as read from YAML, JSON or arguments.

    Args:
        method: Method name.
        values: Field names to values; lists stand for tuples, and so does a
            single value.

    Raises:
        ConfigError: Unknown method or field, wrong type, or a value out of range.
    """
    config_class = find_method(method).config_class
    hints = typing.get_type_hints(config_class)
    known = {field.name: hints[field.name] for field in dataclasses.fields(config_class)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        msg = f'{method} has no option {", ".join(unknown)}: it has {", ".join(sorted(known))}'
        raise ConfigError(msg)
    try:
        return config_class(
            **{name: _convert(name, value, known[name]) for name, value in values.items()}
        )
    except (TypeError, ValueError) as error:
        msg = f'{method}: {error}'
        raise ConfigError(msg) from error


def _convert(name: str, value: object, kind: type) -> object:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
        return _convert(name, value, kind)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            value = [value]
        return tuple(_convert(name, one, typing.get_args(kind)[0]) for one in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        msg = f'{name} must be of type {kind.__name__}, not {value!r}'
        raise TypeError(msg)
    return value
