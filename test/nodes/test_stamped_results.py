# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages are grouped by stamp, in whatever order they arrive."""

import pytest

pytest.importorskip('rclpy')

from builtin_interfaces.msg import Time
from flow_anomaly_ros.nodes.stamped_results import StampedResults

pytestmark = pytest.mark.ros


def test_a_group_is_complete_when_each_topic_has_a_message_of_the_stamp():
    results = StampedResults(('image', 'verdict'))
    first, second = Time(sec=1, nanosec=5), Time(sec=1, nanosec=6)
    results.add('image', first, 'image 1')
    results.add('verdict', second, 'verdict 2')
    assert results.complete() == []
    results.add('image', second, 'image 2')
    assert results.complete() == [{'verdict': 'verdict 2', 'image': 'image 2'}]
    results.add('verdict', first, 'verdict 1')
    assert [group['image'] for group in results.complete()] == ['image 1', 'image 2']
    results.clear()
    assert results.complete() == []


def test_a_message_replaces_an_earlier_one_of_the_same_topic_and_stamp():
    results = StampedResults(('image',))
    for text in ('early', 'late'):
        results.add('image', Time(sec=1), text)
    assert results.complete() == [{'image': 'late'}]
