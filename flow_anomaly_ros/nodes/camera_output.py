# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The topics that carry the results of one camera."""

import cv2
from flow_anomaly_ros.nodes.messages import defects_message, verdict_message
from flow_anomaly_ros.nodes.parameters import ParameterTable
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
    """Publishes inspections, pictures only if somebody looks at them.

    Args:
        node: The node that publishes.
        name: Camera name, the prefix of the topics.
        parameters: The camera's parameters.
    """

    def __init__(self, node: LifecycleNode, name: str, parameters: ParameterTable) -> None:
        self._node = node
        self._parameters = parameters

        def publisher(message_type: type, topic: str):
            return node.create_lifecycle_publisher(message_type, f'{name}/{topic}', small_profile())

        self._verdict = publisher(Classification, 'verdict')
        self._defects = publisher(Detection2DArray, 'defects')
        self._pictures = {
            picture: ReusableImagePublisher(node, f'{name}/{picture}', encoding)
            for picture, encoding in PICTURES.items()
        }

    def is_wanted(self) -> bool:
        """Whether anybody subscribes to a result."""
        results = (self._verdict, self._defects)
        return any(one.get_subscription_count() > 0 for one in results) or any(
            self._is_shown(picture) for picture in PICTURES
        )

    def publish(self, header: Header, image: np.ndarray, inspection: Inspection) -> None:
        """Publish one inspection.

        Args:
            header: Header of the inspected image, copied whole into every message.
            image: The inspected image.
            inspection: Its inspection.
        """
        # The robot waits for the verdict: it goes first.
        self._verdict.publish(verdict_message(inspection, header))
        self._defects.publish(defects_message(inspection, header))
        size = inspection.mask.shape
        if self._is_shown('mask'):
            np.copyto(self._pictures['mask'].buffer(size), inspection.mask)
            self._pictures['mask'].publish(header)
        if self._is_shown('score_map'):
            inspection.write_score_map(self._pictures['score_map'].buffer(size))
            self._pictures['score_map'].publish(header)
        if self._is_shown('overlay'):
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

    def _is_shown(self, picture: str) -> bool:
        return self._parameters[f'publish_{picture}'] and self._pictures[picture].is_wanted()
