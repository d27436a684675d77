# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The topics that carry the results of one camera."""

import cv2
from flow_anomaly_ros.nodes.image_conversion import to_message
from flow_anomaly_ros.nodes.messages import defects_message, verdict_message
from flow_anomaly_ros.nodes.parameters import ParameterTable
from flow_anomaly_ros.nodes.qos import output_profile
from flow_anomaly_ros.runtime.engine import Inspection
from flow_anomaly_ros.runtime.overlay import draw_overlay
import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification, Detection2DArray

PICTURES = ('mask', 'score_map', 'overlay')


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
            return node.create_lifecycle_publisher(
                message_type, f'{name}/{topic}', output_profile()
            )

        self._verdict = publisher(Classification, 'verdict')
        self._defects = publisher(Detection2DArray, 'defects')
        self._pictures = {picture: publisher(Image, picture) for picture in PICTURES}

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
        if self._is_shown('mask'):
            self._pictures['mask'].publish(to_message(inspection.mask, 'mono8', header))
        if self._is_shown('score_map'):
            self._pictures['score_map'].publish(to_message(inspection.score_map, '32FC1', header))
        if self._is_shown('overlay'):
            picture = draw_overlay(
                image,
                inspection.mask,
                inspection.regions,
                str(inspection.verdict),
                inspection.image_score,
            )
            self._pictures['overlay'].publish(
                to_message(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), 'bgr8', header)
            )

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in (self._verdict, self._defects, *self._pictures.values()):
            self._node.destroy_lifecycle_publisher(publisher)

    def _is_shown(self, picture: str) -> bool:
        return (
            self._parameters[f'publish_{picture}']
            and self._pictures[picture].get_subscription_count() > 0
        )
