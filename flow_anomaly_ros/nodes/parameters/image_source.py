# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the image source node."""

from dataclasses import dataclass

from flow_anomaly_ros.nodes.parameters.declaration import parameter


@dataclass(frozen=True)
class ImageSourceParameters:
    """Parameters of the image source node."""

    path: str = parameter(
        '',
        'Video file, folder of images, or folder in MVTec layout, whose test images are '
        'published (training images if there are none). Required.',
        read_only=True,
        example='images',
    )
    camera: str = parameter(
        'camera',
        'Camera name: images are published on `<camera>/image`, the file each came from on '
        '`<camera>/source`.',
        read_only=True,
    )
    frame_id: str = parameter('camera_optical_frame', '`frame_id` of the image headers.')
    rate: float = parameter(
        5.0,
        'Images per second. 0: each call of `~/next` publishes the next image, as a triggered '
        'camera does, and `~/repeat` publishes the same one again.',
        limits=(0.0, 1000.0),
        read_only=True,
    )
    loop: bool = parameter(True, 'Start again after the last image. False: the node exits.')
    wait_for_subscriber: bool = parameter(
        True, 'Publish images only while `<camera>/image` has a subscriber.'
    )
