# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The last image that was not called ok, whatever comes first."""

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from builtin_interfaces.msg import Time
from flow_anomaly_ros.nodes.recent_images import RecentImages
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification, ObjectHypothesis

pytestmark = pytest.mark.ros


def image(seconds):
    return Image(header=Header(stamp=Time(sec=seconds, nanosec=7)))


def verdict(name, seconds):
    results = [ObjectHypothesis(class_id=name)] if name else []
    return Classification(header=image(seconds).header, results=results)


@pytest.mark.parametrize('name', ['uncertain', 'defect'])
def test_an_image_and_its_verdict_may_come_in_either_order(name):
    recent = RecentImages(2)
    recent.add_image(image(1))
    recent.add_verdict(verdict(name, 1))
    assert recent.rejected == image(1)
    recent.add_verdict(verdict(name, 2))
    assert recent.rejected is None, 'an older part must not be taken for this one'
    recent.add_image(image(2))
    assert recent.rejected == image(2)


@pytest.mark.parametrize('name', ['ok', ''])
def test_ok_and_unknown_verdicts_do_not_change_the_rejected_image(name):
    recent = RecentImages(2)
    for seconds in (1, 2):
        recent.add_image(image(seconds))
    recent.add_verdict(verdict('defect', 1))
    recent.add_verdict(verdict(name, 2))
    assert recent.rejected == image(1)


def test_the_oldest_images_go_first():
    recent = RecentImages(2)
    for seconds in (1, 2, 3):
        recent.add_image(image(seconds))
    for seconds, kept in ((3, image(3)), (2, image(2)), (1, None)):
        recent.add_verdict(verdict('defect', seconds))
        assert recent.rejected == kept
