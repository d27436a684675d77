# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where a camera's images come from."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from flow_anomaly_ros.nodes.camera_input import CameraInput
from flow_anomaly_ros.nodes.image_conversion import to_message
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header

pytestmark = pytest.mark.ros


def test_images_that_a_full_queue_pushed_out_are_counted(spinner):
    """Nobody spins these nodes but the test, as if the detector were busy for a while."""
    del spinner
    sender, receiver = rclpy.create_node('sender'), rclpy.create_node('receiver')
    executor = SingleThreadedExecutor()
    executor.add_node(receiver)
    publisher = sender.create_publisher(Image, 'front/image', 10)
    camera = CameraInput(receiver, 'front', '', compressed=False)
    received = []
    message = to_message(np.zeros((8, 8), np.uint8), 'mono8', Header())
    deadline = time.monotonic() + 20
    while not received:
        camera.subscribe(received.append)
        publisher.publish(message)
        executor.spin_once(timeout_sec=0.1)
        assert time.monotonic() < deadline
    before = len(received) + camera.lost
    for _ in range(50):
        publisher.publish(message)
    # The last one shows the gap before it.
    while camera.lost == 0 or len(received) + camera.lost < before + 50:
        executor.spin_once(timeout_sec=0.1)
        assert time.monotonic() < deadline
    assert len(received) + camera.lost == before + 50
    assert camera.lost > 0
    sender.destroy_node()
    receiver.destroy_node()
