# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Camera names, which are the prefixes of topic names."""

from rclpy.validate_topic_name import validate_topic_name


def require_camera_names(names: tuple[str, ...]) -> None:
    """Check camera names.

    Raises:
        ValueError: There is no name, or one is empty or given twice; one line.
        InvalidTopicNameException: A name cannot begin the name of a topic.
    """
    if not all(names) or len(set(names)) < max(1, len(names)):
        msg = f'camera names are {list(names)}: give at least one; they must be unique, none empty'
        raise ValueError(msg)
    for name in names:
        validate_topic_name(f'{name}/image')
