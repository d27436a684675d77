# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The image topic of a camera, and problems with it."""

from collections.abc import Callable
import time
from typing import Any

from flow_anomaly_ros.cell.topics import image_topic
from flow_anomaly_ros.nodes.qos import matching_profile
import numpy as np
from rclpy.event_handler import (
    QoSMessageLostInfo,
    QoSRequestedIncompatibleQoSInfo,
    SubscriptionEventCallbacks,
)
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

# Seconds that a problem must last to be logged: a camera may start a little later than the node.
PROBLEM_GRACE_S = 5.0
# Seconds after which a lasting problem is logged again.
REMINDER_PERIOD_S = 60.0


class CameraInput:
    """Receives the images of one camera.

    Args:
        node: The node that subscribes.
        name: Camera name.
        topic: Image topic; empty takes <name>/image.
        compressed: Whether to subscribe to the sensor_msgs/CompressedImage of <topic>/compressed.

    Attributes:
        topic: Resolved name of the image topic.
        lost: Messages that were lost in transport, as far as the middleware reports them.
        shape: Size and encoding of the latest image, empty before the first one.
        array_shape: Shape of its array, HxW or HxWx3; empty before the first one.
    """

    def __init__(self, node: Node, name: str, topic: str, compressed: bool) -> None:
        self._node = node
        self._name = name
        self._type = CompressedImage if compressed else Image
        self._topic = image_topic(name, compressed, topic)
        self.topic = node.resolve_topic_name(self._topic)
        self._subscription: Subscription | None = None
        self._reliability: ReliabilityPolicy | None = None
        self._publishers = 0
        self._sequence: int | None = None
        self._obstacle = ''
        self._incompatible = ''
        self._problem_kind = ''
        self._next_warning = 0.0
        self.restart()

    def restart(self) -> None:
        """Reset the counters and what is known of the images."""
        self.lost = 0
        self.shape = ''
        self.array_shape: tuple[int, ...] = ()
        self._first_shape = ''
        self._last_image = time.monotonic()

    @property
    def is_subscribed(self) -> bool:
        """Whether the node is subscribed to the images."""
        return self._subscription is not None

    def subscribe(self, callback: Callable[[Image | CompressedImage], None]) -> None:
        """Subscribe with the publishers' quality of service, and again when that changes.

        Args:
            callback: Called with each message.
        """
        expected = f'sensor_msgs/msg/{self._type.__name__}'
        found = self._node.get_publishers_info_by_topic(self.topic)
        # Publishers of another type do not reach this node and do not disturb the others.
        publishers = [publisher for publisher in found if publisher.topic_type == expected]
        self._publishers = len(publishers)
        self._obstacle = ''
        if not found:
            self._obstacle = f'no publisher on {self.topic}'
            # The subscription is kept: publishers usually return with the same settings.
            return
        if not publishers:
            actual = found[0].topic_type
            self._obstacle = (
                f'{self.topic} has type {actual}, not {expected}: no images are received'
            )
            self._drop()
            return
        profile = matching_profile(publishers)
        if self._subscription and self._reliability == profile.reliability:
            return
        is_first = self._subscription is None
        self._drop()
        if is_first:
            self._last_image = time.monotonic()
        self._incompatible = ''
        self._reliability = profile.reliability

        def receive(message: Image | CompressedImage, info: dict[str, Any]) -> None:
            self._last_image = time.monotonic()
            self._count_lost(info['publication_sequence_number'])
            callback(message)

        self._subscription = self._node.create_subscription(
            self._type,
            self._topic,
            # rclpy's annotation covers only callbacks without message info.
            receive,  # type: ignore[arg-type]
            profile,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, message_lost=self._on_lost
            ),
        )

    def unsubscribe(self) -> None:
        """Stop receiving images and clear the problems of the subscription."""
        self._drop()
        self._obstacle = self._incompatible = ''

    def _drop(self) -> None:
        if self._subscription:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
            self._sequence = None

    def record_format(self, image: np.ndarray, message: Image | CompressedImage) -> None:
        """Store size and encoding of a received image."""
        self.array_shape = image.shape
        height, width = image.shape[:2]
        encoding = message.encoding if isinstance(message, Image) else message.format
        self.shape = f'{width}x{height} {encoding}'
        self._first_shape = self._first_shape or self.shape

    def problem(self, silence: float) -> str:
        """Return in one line why no images arrive or what is odd about them; empty if nothing.

        Args:
            silence: Seconds without an image that count as a problem; 0: never.
        """
        if self._obstacle:
            return self._obstacle
        if self._incompatible:
            return self._incompatible
        seconds = time.monotonic() - self._last_image
        if self._subscription and 0 < silence < seconds:
            return f'{self.topic} has been silent for {seconds:.0f} s: check the camera'
        if self.shape != self._first_shape:
            return (
                f'{self.topic} changed from {self._first_shape} to {self.shape}: '
                'check the camera settings'
            )
        return ''

    def warn_throttled(self, problem: str) -> None:
        """Log a problem after PROBLEM_GRACE_S, and again every REMINDER_PERIOD_S.

        Args:
            problem: Return value of `problem`; to be passed several times a second.
        """
        # The same problem may contain a number that increases.
        kind = ''.join(character for character in problem if not character.isdigit())
        now = time.monotonic()
        if kind != self._problem_kind:
            self._problem_kind, self._next_warning = kind, now + PROBLEM_GRACE_S
        if problem and now >= self._next_warning:
            self._next_warning = now + REMINDER_PERIOD_S
            self._node.get_logger().warning(f'camera {self._name}: {problem}')

    def _on_incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self._incompatible = (
            f'a publisher on {self.topic} offers incompatible QoS ({policy}): '
            'its images are not received'
        )

    def _count_lost(self, number: int | None) -> None:
        # A gap in the numbers reveals every loss, also of messages that a full queue dropped, which
        # no event reports. The numbers of several publishers cannot be told apart.
        if number and self._sequence and self._publishers == 1:
            self.lost += max(0, number - self._sequence - 1)
        self._sequence = number

    def _on_lost(self, event: QoSMessageLostInfo) -> None:
        if self._sequence is None:
            self.lost += event.total_count_change
