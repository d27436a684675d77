# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of topics that nodes and launch files have to agree on."""


def image_topic(camera: str, compressed: bool) -> str:
    """Topic of a camera's images where none is given.

    Args:
        camera: Camera name.
        compressed: Whether they are sensor_msgs/CompressedImage.
    """
    return f'{camera}/image/compressed' if compressed else f'{camera}/image'
