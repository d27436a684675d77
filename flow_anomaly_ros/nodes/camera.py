# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One camera of a detector node: its subscription, its publishers and its statistics."""

from collections.abc import Callable

from flow_anomaly_ros.nodes.image_conversion import to_message
from flow_anomaly_ros.nodes.messages import defects_message, verdict_message
from flow_anomaly_ros.nodes.qos import matching_profile, output_profile
from flow_anomaly_ros.nodes.statistics import CameraStatistics
from flow_anomaly_ros.runtime.engine import Inspection
from flow_anomaly_ros.runtime.overlay import draw_overlay
import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification, Detection2DArray


class Camera:
    """Topics of one camera.

    Args:
        node: The node they belong to; its parameter `transport` chooses the input.
        name: Camera name, the prefix of its topics.

    Attributes:
        name: Camera name.
        input_topic: Resolved name of the image topic.
        statistics: What happened to its frames.
        problem: Why no images come, empty when they may.
    """

    def __init__(self, node: LifecycleNode, name: str) -> None:
        self.name = name
        self.statistics = CameraStatistics()
        self.problem = ''
        self._node = node
        compressed = node.get_parameter('transport').value == 'compressed'
        self._type = CompressedImage if compressed else Image
        self._topic = f'{name}/image/compressed' if compressed else f'{name}/image'
        self.input_topic = node.resolve_topic_name(self._topic)
        self._subscription: Subscription | None = None
        self._reliability: ReliabilityPolicy | None = None

        def publisher(message_type: type, topic: str):
            return node.create_lifecycle_publisher(
                message_type, f'{name}/{topic}', output_profile()
            )

        self._mask = publisher(Image, 'mask')
        self._score_map = publisher(Image, 'score_map')
        self._overlay = publisher(Image, 'overlay')
        self._defects = publisher(Detection2DArray, 'defects')
        self._verdict = publisher(Classification, 'verdict')
        self._publishers = (
            self._mask,
            self._score_map,
            self._overlay,
            self._defects,
            self._verdict,
        )

    @property
    def is_subscribed(self) -> bool:
        """Whether images are being received, or would be."""
        return self._subscription is not None

    def is_wanted(self) -> bool:
        """Whether anybody subscribes to a result."""
        return any(one.get_subscription_count() > 0 for one in self._publishers)

    def subscribe(self, callback: Callable[[str, Image | CompressedImage], None]) -> None:
        """Subscribe with the publishers' quality of service, anew when that changes.

        Args:
            callback: Called with the camera's name and each message.
        """
        publishers = self._node.get_publishers_info_by_topic(self.input_topic)
        if not publishers:
            self.problem = f'nobody publishes {self.input_topic}'
            return
        expected = f'sensor_msgs/msg/{self._type.__name__}'
        others = {one.topic_type for one in publishers} - {expected}
        if others:
            self._complain(f'{self.input_topic} is {others.pop()}, not {expected}: no images come')
            self.unsubscribe()
            return
        self.problem = ''
        profile = matching_profile(publishers)
        if self._subscription and self._reliability == profile.reliability:
            return
        self.unsubscribe()
        self._reliability = profile.reliability
        self._subscription = self._node.create_subscription(
            self._type, self._topic, lambda message: callback(self.name, message), profile
        )

    def unsubscribe(self) -> None:
        """Stop receiving images."""
        if self._subscription:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def destroy(self) -> None:
        """Remove all topics."""
        self.unsubscribe()
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def publish(self, header: Header, image: np.ndarray, inspection: Inspection) -> None:
        """Publish one inspection; pictures only if somebody looks at them.

        Args:
            header: Header of the inspected image, copied whole into every message.
            image: The inspected image.
            inspection: Its inspection.
        """
        # The robot waits for the verdict: it goes first.
        self._verdict.publish(verdict_message(inspection, header))
        self._defects.publish(defects_message(inspection, header))
        if self._mask.get_subscription_count():
            self._mask.publish(to_message(inspection.mask, 'mono8', header))
        if self._score_map.get_subscription_count():
            self._score_map.publish(to_message(inspection.score_map, '32FC1', header))
        if self._overlay.get_subscription_count():
            picture = draw_overlay(
                image,
                inspection.mask,
                inspection.regions,
                str(inspection.verdict),
                inspection.image_score,
            )
            self._overlay.publish(
                to_message(np.ascontiguousarray(picture[..., ::-1]), 'bgr8', header)
            )

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            self._node.get_logger().error(problem)
        self.problem = problem
