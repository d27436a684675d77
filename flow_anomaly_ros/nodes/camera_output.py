# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The result topics of one camera."""

import cv2
from flow_anomaly_ros.nodes.messages import defects_message, verdict_message
from flow_anomaly_ros.nodes.parameters.camera import CameraParameters
from flow_anomaly_ros.nodes.qos import small_profile
from flow_anomaly_ros.nodes.reusable_image_publisher import ReusableImagePublisher
from flow_anomaly_ros.runtime.engine import Inspection
from flow_anomaly_ros.runtime.overlay import draw_overlay
import numpy as np
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header
from vision_msgs.msg import Classification, Detection2DArray

PICTURES = {'mask': 'mono8', 'score_map': '32FC1', 'overlay': 'bgr8'}


class CameraOutput:
    """Publishes inspections; mask, score map and overlay only while they have subscribers.

    Args:
        node: The node that publishes.
        name: Camera name, the prefix of the topics.
    """

    def __init__(self, node: LifecycleNode, name: str) -> None:
        self._node = node

        def publisher(message_type: type, topic: str):
            return node.create_lifecycle_publisher(message_type, f'{name}/{topic}', small_profile())

        self._verdict = publisher(Classification, 'verdict')
        self._defects = publisher(Detection2DArray, 'defects')
        self._pictures = {
            picture: ReusableImagePublisher(node, f'{name}/{picture}', encoding)
            for picture, encoding in PICTURES.items()
        }

    def has_subscribers(self, parameters: CameraParameters) -> bool:
        """Return whether a result that the parameters allow to be published has a subscriber."""
        publishers = (self._verdict, self._defects)
        return any(publisher.get_subscription_count() > 0 for publisher in publishers) or any(
            self._is_shown(picture, parameters) for picture in PICTURES
        )

    def publish(
        self,
        header: Header,
        image: np.ndarray,
        inspection: Inspection,
        parameters: CameraParameters,
    ) -> None:
        """Publish one inspection.

        Args:
            header: Header of the inspected image, copied unchanged into every message.
            image: The inspected image, HxW grey or HxWx3 RGB, uint8 or uint16.
            inspection: Its inspection.
            parameters: The camera's parameters, which may switch pictures off.
        """
        # The robot waits for the verdict, so it is published first.
        self._verdict.publish(verdict_message(inspection, header))
        self._defects.publish(defects_message(inspection, header))
        size = inspection.mask.shape
        if self._is_shown('mask', parameters):
            np.copyto(self._pictures['mask'].buffer(size), inspection.mask)
            self._pictures['mask'].publish(header)
        if self._is_shown('score_map', parameters):
            inspection.write_score_map(self._pictures['score_map'].buffer(size))
            self._pictures['score_map'].publish(header)
        if self._is_shown('overlay', parameters):
            picture = draw_overlay(
                image,
                inspection.mask,
                inspection.regions,
                str(inspection.verdict),
                inspection.image_score,
            )
            buffer = self._pictures['overlay'].buffer((*size, 3))
            cv2.cvtColor(picture, cv2.COLOR_RGB2BGR, dst=buffer)
            self._pictures['overlay'].publish(header)

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in (self._verdict, self._defects):
            self._node.destroy_lifecycle_publisher(publisher)
        for picture in self._pictures.values():
            picture.destroy()

    def _is_shown(self, picture: str, parameters: CameraParameters) -> bool:
        is_allowed = getattr(parameters, f'publish_{picture}')
        return is_allowed and self._pictures[picture].has_subscribers()
