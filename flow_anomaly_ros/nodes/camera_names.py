# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of cameras, which begin the names of their topics."""

from rclpy.validate_topic_name import validate_topic_name


def camera_names(names: list[str]) -> tuple[str, ...]:
    """Check the parameter `cameras`.

    Raises:
        ValueError: No name, an empty one or one twice; one line.
        InvalidTopicNameException: A name that cannot begin the name of a topic.
    """
    if not all(names) or len(set(names)) < max(1, len(names)):
        msg = f"parameter 'cameras' is {names}: give each camera a name of its own"
        raise ValueError(msg)
    for name in names:
        validate_topic_name(f'{name}/image')
    return tuple(names)
