# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""An rviz configuration for the cameras of a cell."""

from collections.abc import Mapping
import copy
from pathlib import Path

import yaml


def cell_config(template: Path, images: Mapping[str, str], namespace: str = '') -> str:
    """Repeat the group of one camera for all cameras of a cell.

    Args:
        template: Configuration of rviz2 with one group, that of a camera called `camera`.
        images: Image topic by camera.
        namespace: Namespace of the cell.

    Returns:
        Text of an .rviz file.
    """
    config = yaml.safe_load(template.read_text(encoding='utf-8'))
    manager = config['Visualization Manager']
    (group,) = manager['Displays']
    manager['Displays'] = [
        # rviz2 knows the transport by the name of the topic.
        _group_of(group, camera, image, namespace.strip('/'))
        for camera, image in images.items()
    ]
    return yaml.safe_dump(config, sort_keys=False)


def _group_of(group: dict, camera: str, image: str, namespace: str) -> dict:
    group = copy.deepcopy(group)
    prefix = f'/{namespace}' if namespace else ''
    name = group['Name']
    group['Name'] = camera
    for display in group['Displays']:
        display['Name'] = display['Name'].replace(name, camera, 1)
        topic = display['Topic']
        topic['Value'] = prefix + topic['Value'].replace(f'/{name}/', f'/{camera}/', 1)
        if topic['Value'].endswith('/image'):
            topic['Value'] = image if image.startswith('/') else f'{prefix}/{image}'
    return group
