# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The vision_msgs types in use are on the wire those of the released package."""

import os
import time

import pytest

rclpy = pytest.importorskip('rclpy')
msg = pytest.importorskip('vision_msgs.msg', reason='run scripts/build_messages.py')

from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402

pytestmark = pytest.mark.ros

# Of vision_msgs 4.1.1: two nodes talk to each other only where their hashes are equal.
RELEASED_HASHES = {
    'BoundingBox2D': '008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f',
    'Classification': 'f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143',
    'Detection2D': '0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea',
    'Detection2DArray': '214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'ObjectHypothesis': '51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90',
    'ObjectHypothesisWithPose': '41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc',
    'Point2D': 'eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247',
    'Pose2D': 'b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648',
}


@pytest.fixture(scope='module')
def node():
    """Yield a node alone in its ROS domain, seen from this machine only."""
    context = rclpy.Context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        rclpy.init(context=context, domain_id=1 + os.getpid() % 100)
        node = rclpy.create_node('vision_msgs_test', context=context)
        yield node
        node.destroy_node()
        context.shutdown()


@pytest.mark.parametrize('name', RELEASED_HASHES)
def test_graph_reports_the_released_type_hash(node, name):
    topic = f'/vision_msgs_test/{name}'
    publisher = node.create_publisher(getattr(msg, name), topic, 1)
    deadline = time.monotonic() + 10
    endpoints = []
    while not endpoints and time.monotonic() < deadline:
        time.sleep(0.02)
        endpoints = node.get_publishers_info_by_topic(topic)
    node.destroy_publisher(publisher)

    assert [endpoint.topic_type for endpoint in endpoints] == [f'vision_msgs/msg/{name}']
    assert str(endpoints[0].topic_type_hash) == f'RIHS01_{RELEASED_HASHES[name]}'


def test_filled_detections_survive_serialisation():
    hypothesis = msg.ObjectHypothesis(class_id='defect', score=0.75)
    defect = msg.ObjectHypothesisWithPose(hypothesis=hypothesis)
    defect.pose.pose.position.z = 0.5
    defect.pose.covariance[35] = 0.25
    center = msg.Pose2D(position=msg.Point2D(x=12.5, y=34.25), theta=-0.5)
    box = msg.BoundingBox2D(center=center, size_x=8.0, size_y=3.0)
    detection = msg.Detection2D(results=[defect], bbox=box, id='7')
    sent = msg.Detection2DArray(detections=[detection, msg.Detection2D()])
    sent.header.stamp.sec = 1_700_000_000
    sent.header.stamp.nanosec = 999_999_999
    sent.header.frame_id = 'camera_ä'

    received = deserialize_message(serialize_message(sent), msg.Detection2DArray)

    assert received == sent
    assert received.detections[0].bbox.center.position.y == 34.25
