# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The last images of a camera, and the last one that was not called ok."""

from collections import OrderedDict

from builtin_interfaces.msg import Time
from flow_anomaly_ros.scoring.thresholds import Verdict
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Classification


def nanoseconds(stamp: Time) -> int:
    """A stamp as one number."""
    return stamp.sec * 10**9 + stamp.nanosec


class RecentImages:
    """Keeps images until their verdicts come; verdicts and images may come in any order.

    Args:
        most: Images that are kept.

    Attributes:
        rejected: The last image that was not called ok; None before the first one, or while it
            has not come.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._images: OrderedDict[int, Image | CompressedImage] = OrderedDict()
        self._wanted: int | None = None
        self.rejected: Image | CompressedImage | None = None

    def add_image(self, message: Image | CompressedImage) -> None:
        """Take an image of the camera."""
        stamp = nanoseconds(message.header.stamp)
        self._images[stamp] = message
        if stamp == self._wanted:
            self.rejected = message
        while len(self._images) > self._most:
            self._images.popitem(last=False)

    def add_verdict(self, verdict: Classification) -> None:
        """Take a verdict of the detector on an image of the camera."""
        if verdict.results and verdict.results[0].class_id != Verdict.OK:
            self._wanted = nanoseconds(verdict.header.stamp)
            self.rejected = self._images.get(self._wanted)
