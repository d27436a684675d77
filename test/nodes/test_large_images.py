# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The profile of Fast DDS lets large images pass between processes."""

import os
from pathlib import Path
import subprocess
import sys

from flow_anomaly_ros.cell.transport import PROFILE_VARIABLE
import pytest
from waiting import exit_status

pytest.importorskip('rclpy')

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

pytestmark = pytest.mark.ros

PROFILE = Path(__file__).parents[2] / 'config' / 'fastdds.xml'
SENT = 20
BEST_EFFORT = QoSProfile(depth=SENT, reliability=ReliabilityPolicy.BEST_EFFORT)
# Images of 3.7 MB, best effort as camera drivers publish them, from a process of its own.
CAMERA = """
import time
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('camera')
profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
publisher = node.create_publisher(Image, 'large', profile)
image = Image(height=960, width=1280, step=3840, encoding='rgb8', data=bytes(960 * 3840))
while not publisher.get_subscription_count():
    time.sleep(0.05)
for _ in range({sent}):
    publisher.publish(image)
    time.sleep(0.1)
time.sleep(1.0)
"""


@pytest.mark.skipif(
    os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp',
    reason='the profile is for Fast DDS',
)
def test_no_large_image_is_lost_that_is_published_best_effort(make_probe, wait_for):
    received = []
    node = make_probe().node
    node.create_subscription(Image, 'large', received.append, BEST_EFFORT)
    environment = {**os.environ, PROFILE_VARIABLE: str(PROFILE)}
    camera = subprocess.Popen([sys.executable, '-c', CAMERA.format(sent=SENT)], env=environment)
    try:
        assert exit_status(camera) == 0
        # Without the profile about every third one arrives.
        wait_for(lambda: len(received) == SENT)
    finally:
        camera.kill()
