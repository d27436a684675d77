# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly extract`: extract images from a rosbag2 recording."""

import argparse
import sys

from flow_anomaly_ros.commands.arguments import integer_from, path

SUMMARY = 'extract images from a rosbag2 recording'
DESCRIPTION = """\
Write images of a topic as PNG files to train on, evenly spaced over a recording (sqlite3 or mcap).
Needs the package rosbags, but no ROS installation."""
EXAMPLE = 'extract recording/ --topic /camera/image --output good_parts/ --count 10'
DEFAULT_COUNT = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'recording', type=path, metavar='RECORDING', help='folder that ros2 bag record wrote'
    )
    parser.add_argument(
        '--topic', required=True, metavar='TOPIC', help='image topic, raw or compressed (required)'
    )
    parser.add_argument(
        '--output',
        type=path,
        required=True,
        metavar='DIR',
        help='folder for the images; created if it is missing (required)',
    )
    parser.add_argument(
        '--count',
        type=integer_from(1),
        metavar='N',
        help=f'number of images (default: {DEFAULT_COUNT})',
    )
    # Its former name; --images is a path in other commands.
    parser.add_argument('--images', type=integer_from(1), help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Extract; see `actions.extract.run`."""
    from flow_anomaly_ros.commands.actions import extract

    if arguments.images is not None:
        if arguments.count is not None:
            msg = '--images is the former name of --count: give only --count'
            raise ValueError(msg)
        print('flow-anomaly: --images is now called --count: use --count', file=sys.stderr)
        arguments.count = arguments.images
    arguments.count = arguments.count or DEFAULT_COUNT
    return extract.run(arguments)
