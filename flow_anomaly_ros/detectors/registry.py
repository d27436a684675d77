# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The detection methods by name."""

from collections.abc import Mapping
import dataclasses
import types
import typing

from flow_anomaly_ros.detectors import (
    cainnflow,
    feature_fusion,
    nf_bmr,
    restoration,
    timenet,
)
from flow_anomaly_ros.detectors.method import Method

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        restoration.METHOD,
        cainnflow.METHOD,
        nf_bmr.METHOD,
        feature_fusion.METHOD,
        timenet.METHOD,
    )
}
DEFAULT_METHOD = restoration.METHOD.name


class ConfigError(ValueError):
    """A method or its configuration cannot be used; the message is one line."""


def find_method(name: str) -> Method:
    """Return a method.

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


def build_config(name: str, values: Mapping[str, object]) -> typing.Any:
    """Make a method's configuration from plain values, as read from YAML, JSON or arguments.

    Args:
        name: Name of the method.
        values: Option names, today's or former ones, to values; lists stand for tuples, and so
            does a single value.

    Raises:
        ConfigError: Unknown method or option, wrong type, or a value out of range.
    """
    method = find_method(name)
    hints = typing.get_type_hints(method.config)
    known = {option.name: hints[option.name] for option in dataclasses.fields(method.config)}
    try:
        options, _ = method.current_options(values)
        if unknown := sorted(set(options) - set(known)):
            msg = f'unknown option {", ".join(unknown)}: choose from {", ".join(sorted(known))}'
            raise ValueError(msg)
        return method.config(
            **{option: _convert(option, value, known[option]) for option, value in options.items()}
        )
    except (TypeError, ValueError) as error:
        msg = f'{name}: {error}'
        raise ConfigError(msg) from error


def _convert(name: str, value: object, kind: type) -> object:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        kind = next(member for member in typing.get_args(kind) if member is not type(None))
        return _convert(name, value, kind)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            value = [value]
        return tuple(_convert(name, element, typing.get_args(kind)[0]) for element in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        msg = f'{name} must be of type {kind.__name__}, not {value!r}'
        raise TypeError(msg)
    return value
