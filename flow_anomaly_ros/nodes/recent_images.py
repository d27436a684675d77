# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The recent images of a camera, and the last image of a rejected part."""

from collections import OrderedDict

from flow_anomaly_ros.nodes.stamps import nanoseconds
from flow_anomaly_ros.scoring.thresholds import Verdict
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Classification


class RecentImages:
    """Keeps images until their verdicts arrive; verdicts and images may arrive in any order.

    Args:
        capacity: Number of images that are kept.

    Attributes:
        rejected: The last image whose verdict is not ok; None if there is none yet, or if it has
            not arrived.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._images: OrderedDict[int, Image | CompressedImage] = OrderedDict()
        self._rejected_stamp: int | None = None
        self.rejected: Image | CompressedImage | None = None

    def add_image(self, message: Image | CompressedImage) -> None:
        """Add an image of the camera."""
        stamp = nanoseconds(message.header.stamp)
        self._images[stamp] = message
        if stamp == self._rejected_stamp:
            self.rejected = message
        while len(self._images) > self._capacity:
            self._images.popitem(last=False)

    def add_verdict(self, verdict: Classification) -> None:
        """Add a verdict of the detector on an image of the camera."""
        if verdict.results and verdict.results[0].class_id != Verdict.OK:
            self._rejected_stamp = nanoseconds(verdict.header.stamp)
            self.rejected = self._images.get(self._rejected_stamp)
