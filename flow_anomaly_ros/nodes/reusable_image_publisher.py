# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Publishes images from a message that is reused."""

from flow_anomaly_ros.data.image_messages import create_writable_message
from flow_anomaly_ros.nodes.qos import output_profile
import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header


class ReusableImagePublisher:
    """Publishes images that are written directly into one reused message.

    Allocating and filling a new message of several megabytes for each image would cost as much as
    drawing the image. The middleware has made its own copy when publishing returns.

    Args:
        node: The node that publishes.
        topic: Name of the topic.
        encoding: Encoding of the images, see `data.image_messages.to_message`.
    """

    def __init__(self, node: LifecycleNode, topic: str, encoding: str) -> None:
        self._node = node
        self._publisher = node.create_lifecycle_publisher(Image, topic, output_profile())
        self._encoding = encoding
        self._message: Image | None = None
        self._buffer = np.empty(0)

    def has_subscribers(self) -> bool:
        """Return whether the topic has a subscriber."""
        return self._publisher.get_subscription_count() > 0

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the array to write the next image to; it still holds an earlier one."""
        if self._message is None or self._buffer.shape != shape:
            self._message, self._buffer = create_writable_message(shape, self._encoding)
        return self._buffer

    def publish(self, header: Header) -> None:
        """Publish the image in the buffer."""
        assert self._message is not None
        self._message.header = header
        self._publisher.publish(self._message)

    def destroy(self) -> None:
        """Remove the topic."""
        self._node.destroy_lifecycle_publisher(self._publisher)
