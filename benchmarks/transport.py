#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Images from two camera processes to a third one, without and with config/fastdds.xml.

Counts what arrives and how long it takes from the stamp to the callback. See README.md.
"""

import argparse
import itertools
import os
from pathlib import Path
import subprocess
import sys
import time

from flow_anomaly_ros.cell.transport import PROFILE_VARIABLE
import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image

PROFILE = Path(__file__).parents[1] / 'config' / 'fastdds.xml'
CAMERAS = ('left', 'right')
SIZES = ((640, 480), (1920, 1080))
RELIABILITIES = ('reliable', 'best effort')
# Images before these are of the time when all is found and set up.
SETTLED = 3.0


def main() -> int:
    """Measure all combinations, each in processes of its own, or be one of these."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=20, help='of each row (default: 20)')
    parser.add_argument('--rate', type=float, default=15, help='images per second and camera')
    parser.add_argument('--role', choices=('receiver', *CAMERAS), help=argparse.SUPPRESS)
    parser.add_argument('--size', type=int, nargs=2, default=SIZES[0], help=argparse.SUPPRESS)
    parser.add_argument('--reliability', default=RELIABILITIES[0], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == 'receiver':
        return _receive(arguments)
    if arguments.role:
        return _be_camera(arguments)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    os.environ.pop(PROFILE_VARIABLE, None)
    print(f'{len(CAMERAS)} cameras at {arguments.rate:g} Hz for {arguments.seconds:g} s')
    print('| image | published | config/fastdds.xml | arrived | p50 ms | p95 ms | max ms |')
    print('|---|---|---|---|---|---|---|')
    for size, reliability, profile in itertools.product(SIZES, RELIABILITIES, ('no', 'yes')):
        print(f'| {size[0]}x{size[1]} | {reliability} | {profile} ', end='', flush=True)
        extra = {PROFILE_VARIABLE: str(PROFILE)} if profile == 'yes' else {}
        command = [
            *(sys.executable, __file__, '--seconds', str(arguments.seconds)),
            *('--rate', str(arguments.rate), '--reliability', reliability, '--size'),
            *map(str, size),
        ]
        subprocess.run([*command, '--role', 'receiver'], env=os.environ | extra, check=True)
    return 0


def _receive(arguments: argparse.Namespace) -> int:
    """Start the cameras and tell what arrives of them."""
    rclpy.init()
    node = rclpy.create_node('receiver')
    milliseconds: list[float] = []

    def take(image: Image) -> None:
        age = node.get_clock().now() - Time.from_msg(image.header.stamp)
        milliseconds.append(age.nanoseconds / 1e6)

    for camera in CAMERAS:
        node.create_subscription(Image, camera, take, _profile(arguments.reliability))
    cameras = [
        subprocess.Popen([*_without_role(), '--role', camera], stdout=subprocess.DEVNULL)
        for camera in CAMERAS
    ]

    def spin(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=0.05)

    try:
        while not milliseconds:
            rclpy.spin_once(node, timeout_sec=0.05)
        spin(SETTLED)
        milliseconds.clear()
        spin(arguments.seconds)
    finally:
        for process in cameras:
            process.kill()
    sent = len(CAMERAS) * arguments.rate * arguments.seconds
    arrived = min(100, round(100 * len(milliseconds) / sent))
    # Without a profile a short run may see none of the large ones.
    median, high, most = np.percentile(milliseconds or [float('nan')], (50, 95, 100))
    print(f'| {arrived} % | {median:.1f} | {high:.1f} | {most:.0f} |')
    return 0


def _without_role() -> list[str]:
    return [sys.executable, *sys.argv[: sys.argv.index('--role')]]


def _be_camera(arguments: argparse.Namespace) -> int:
    """Publish images until killed."""
    width, height = arguments.size
    rclpy.init()
    node = rclpy.create_node(arguments.role)
    publisher = node.create_publisher(Image, arguments.role, _profile(arguments.reliability))
    image = Image(height=height, width=width, step=3 * width, encoding='rgb8')
    image.data = bytes(3 * width * height)

    def publish() -> None:
        image.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(image)

    node.create_timer(1 / arguments.rate, publish)
    rclpy.spin(node)
    return 0


def _profile(reliability: str) -> QoSProfile:
    policy = ReliabilityPolicy[reliability.upper().replace(' ', '_')]
    return QoSProfile(depth=10, reliability=policy)


if __name__ == '__main__':
    sys.exit(main())
