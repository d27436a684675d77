# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Format versions of manifests, and the upgrade of earlier ones."""

from typing import Any

from flow_anomaly_ros.detectors.registry import METHODS
from flow_anomaly_ros.runtime.preprocess import MAX_VALUES

# Version 2 added tiles, 3 classes, 4 the golden sample, 5 the maximum value, 6 the strides of
# restoration's levels; 7 renamed options, tensors, `good_part` and `white`; 8 added restoration's
# restoring flow, 9 the measured offsets of the levels of networks and the agreement of
# restoration's maps, 10 the weighting of its scales.
FORMAT_VERSION = 10


def upgrade_manifest(values: Any) -> dict[str, Any]:
    """Bring the content of a manifest to the present format version.

    Args:
        values: What its JSON holds.

    Returns:
        The content without the version.

    Raises:
        ValueError: No format version, or a newer one; one line.
    """
    if not isinstance(values, dict) or type(values.get('format_version')) is not int:
        msg = 'the manifest has no format version'
        raise ValueError(msg)
    values = {**values}
    version = values.pop('format_version')
    if version < 1:
        msg = f'the manifest has an invalid format version: {version}'
        raise ValueError(msg)
    if version > FORMAT_VERSION:
        msg = (
            f'it has format version {version}, but this package reads up to {FORMAT_VERSION}: '
            'update flow_anomaly_ros'
        )
        raise ValueError(msg)
    if version == 1:
        values['tile'] = None
    if version < 3:
        of_class = {name: values.pop(name, None) for name in ('thresholds', 'calibration')}
        values['classes'] = [{'name': '', **of_class}]
    if version < 4:
        values['good_part'] = ''
    if version < 5:
        values['white'] = MAX_VALUES[-1]
    if version < 7:
        for former, name in (('good_part', 'golden_sample'), ('white', 'max_value')):
            if former in values:
                values[name] = values.pop(former)
    method, config = METHODS.get(values.get('method', '')), values.get('config')
    if version < FORMAT_VERSION and method and isinstance(config, dict):
        values['config'] = method.upgrade_config(config, version)
    return values
