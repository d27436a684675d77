# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Inspections as messages."""

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from flow_anomaly_ros.nodes.inspection_report import Box
from flow_anomaly_ros.nodes.messages import detection_message
from flow_anomaly_ros.scoring.regions import find_regions
from std_msgs.msg import Header

pytestmark = pytest.mark.ros


def test_a_box_is_centred_on_its_pixels_and_read_back_as_it_was():
    mask = np.zeros((20, 20), np.uint8)
    mask[10:16, 4:7] = 255
    (region,) = find_regions(mask / 100, mask)
    header = Header(frame_id='camera')
    detection = detection_message(region, header)
    centre, box = detection.bbox.center.position, detection.bbox
    assert (centre.x, centre.y) == (5.0, 12.5)
    assert (box.size_x, box.size_y) == (3.0, 6.0)
    assert detection.header == header
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ('defect', 2.55)
    assert Box.of(detection) == Box(4.0, 10.0, 3.0, 6.0, 2.55)
