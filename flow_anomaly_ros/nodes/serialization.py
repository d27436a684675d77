# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Serialises the results of an inspection: the cost of publishing them without the network."""

import cv2
from flow_anomaly_ros.data.image_messages import to_message
from flow_anomaly_ros.nodes.messages import defects_message, verdict_message
from flow_anomaly_ros.runtime.engine import Inspection
from flow_anomaly_ros.runtime.overlay import draw_overlay
import numpy as np
from rclpy.serialization import serialize_message
from std_msgs.msg import Header


def serialize_results(image: np.ndarray, inspection: Inspection) -> list[bytes]:
    """Return the serialised verdict, defects, mask, score map and overlay of an inspected image."""
    header = Header()
    overlay = draw_overlay(
        image,
        inspection.mask,
        inspection.regions,
        str(inspection.verdict),
        inspection.image_score,
    )
    messages = [
        verdict_message(inspection, header),
        defects_message(inspection, header),
        to_message(inspection.mask, 'mono8', header),
        to_message(inspection.score_map, '32FC1', header),
        to_message(cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR), 'bgr8', header),
    ]
    return [serialize_message(message) for message in messages]
