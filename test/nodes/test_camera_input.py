# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where a camera's images come from."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from flow_anomaly_ros.data.image_messages import to_message
from flow_anomaly_ros.nodes.camera_input import CameraInput
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSPolicyKind
from sensor_msgs.msg import Image
from std_msgs.msg import Header

pytestmark = pytest.mark.ros


class Log:
    """Stands in for the node that a camera belongs to, of which only the log is asked."""

    def __init__(self):
        self.lines = []

    def resolve_topic_name(self, name):
        return f'/{name}'

    def get_logger(self):
        return self

    def warning(self, line):
        self.lines.append(line)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that `time.monotonic` tells, as a list of one."""
    now = [100.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    return now


def test_a_problem_is_logged_once_it_lasts_and_then_once_a_minute(clock):
    log = Log()
    camera = CameraInput(log, 'front', '', compressed=False)
    # The seconds that a camera has been silent for count on; it is one problem all the same.
    for second in range(130):
        clock[0] += 1
        camera.warn_throttled(f'silent for {second} s')
    assert log.lines == [f'camera front: silent for {n} s' for n in (5, 65, 125)]
    camera.warn_throttled('')
    camera.warn_throttled('another one')
    clock[0] += 4
    camera.warn_throttled('another one')
    assert len(log.lines) == 3
    clock[0] += 2
    camera.warn_throttled('another one')
    assert log.lines[3:] == ['camera front: another one']


def test_an_incompatible_quality_of_service_is_a_problem(clock):
    camera = CameraInput(Log(), 'front', '', compressed=False)
    assert camera.problem(0.0) == ''
    kind = QoSPolicyKind.DURABILITY
    camera._on_incompatible(SimpleNamespace(last_policy_kind=kind))
    assert '/front/image offers incompatible QoS (DURABILITY' in camera.problem(0)
    camera.unsubscribe()
    assert camera.problem(0.0) == ''


def test_images_dropped_by_a_full_queue_are_counted_as_lost(spinner, wait_for):
    """Nobody spins these nodes but the test, as if the detector were busy for a while."""
    del spinner
    sender, receiver = rclpy.create_node('sender'), rclpy.create_node('receiver')
    executor = SingleThreadedExecutor()
    executor.add_node(receiver)
    publisher = sender.create_publisher(Image, 'front/image', 10)
    camera = CameraInput(receiver, 'front', '', compressed=False)
    received = []
    message = to_message(np.zeros((8, 8), np.uint8), 'mono8', Header())

    def publish():
        message.header.stamp.sec += 1
        publisher.publish(message)

    def first_is_there():
        camera.subscribe(received.append)
        publish()
        executor.spin_once(timeout_sec=0.1)
        return received

    def last_is_there():
        executor.spin_once(timeout_sec=0.1)
        return received[-1].header.stamp == message.header.stamp

    wait_for(first_is_there, what='an image')
    for _ in range(50):
        publish()
    # The last one shows the gap before it.
    wait_for(last_is_there, what='the last image')
    first, last = received[0].header.stamp.sec, message.header.stamp.sec
    assert len(received) + camera.lost == last - first + 1
    assert camera.lost > 0
    sender.destroy_node()
    receiver.destroy_node()


@pytest.mark.parametrize(
    ('topic', 'compressed', 'expected'),
    [
        ('', False, '/front/image'),
        ('', True, '/front/image/compressed'),
        ('usb/image_raw', False, '/usb/image_raw'),
        ('usb/image_raw', True, '/usb/image_raw/compressed'),
        ('usb/image_raw/compressed', True, '/usb/image_raw/compressed'),
    ],
)
def test_compressed_images_are_received_on_the_subtopic_compressed(topic, compressed, expected):
    assert CameraInput(Log(), 'front', topic, compressed).topic == expected
