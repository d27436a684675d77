# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of topics that nodes and launch files have to agree on."""


def image_topic(camera: str, compressed: bool, base: str = '') -> str:
    """Topic of a camera's images, named as image_transport does.

    Args:
        camera: Camera name.
        compressed: Whether they are sensor_msgs/CompressedImage.
        base: Topic of the images as they are; empty takes <camera>/image.
    """
    base = base or f'{camera}/image'
    return f'{base}/compressed' if compressed and not base.endswith('/compressed') else base
