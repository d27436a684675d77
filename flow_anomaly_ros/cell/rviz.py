# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rviz2 configuration of a cell with several cameras."""

from collections.abc import Mapping
import copy
from pathlib import Path

import yaml


def cell_config(template: Path, images: Mapping[str, str], namespace: str = '') -> str:
    """Fill a template with one display group per camera.

    Args:
        template: An rviz2 configuration with one display group, for a camera named `camera`.
        images: Image topic by camera name; relative topics are resolved in `namespace`.
        namespace: Namespace of the cell.

    Returns:
        Content of an .rviz file.
    """
    config = yaml.safe_load(template.read_text(encoding='utf-8'))
    manager = config['Visualization Manager']
    (group,) = manager['Displays']
    manager['Displays'] = [
        # rviz2 derives the image transport from the topic name.
        _camera_group(group, camera, topic, namespace.strip('/'))
        for camera, topic in images.items()
    ]
    return yaml.safe_dump(config, sort_keys=False)


def _camera_group(template: dict, camera: str, image_topic: str, namespace: str) -> dict:
    group = copy.deepcopy(template)
    prefix = f'/{namespace}' if namespace else ''
    name = template['Name']
    group['Name'] = camera
    for display in group['Displays']:
        display['Name'] = display['Name'].replace(name, camera, 1)
        topic = display['Topic']
        topic['Value'] = prefix + topic['Value'].replace(f'/{name}/', f'/{camera}/', 1)
        if topic['Value'].endswith('/image'):
            is_absolute = image_topic.startswith('/')
            topic['Value'] = image_topic if is_absolute else f'{prefix}/{image_topic}'
    return group
