# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Topic names that nodes and launch files share."""


def image_topic(camera: str, compressed: bool, base: str = '') -> str:
    """Return the topic of a camera's images, following image_transport's naming.

    Args:
        camera: Camera name.
        compressed: Whether the images are `sensor_msgs/CompressedImage`.
        base: Topic of the raw images; empty uses `<camera>/image`.

    Returns:
        `base`, with `/compressed` appended for compressed images.
    """
    base = base or f'{camera}/image'
    return f'{base}/compressed' if compressed and not base.endswith('/compressed') else base
