# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Takes images of good parts out of a rosbag2 recording."""

import argparse
import sys

from flow_anomaly_ros.data.good_parts import GoodParts
from flow_anomaly_ros.data.output_files import make_folder
from flow_anomaly_ros.data.recordings import read_recording


def run(arguments: argparse.Namespace) -> int:
    """Write the images as PNG files that are named after their timestamps.

    Raises:
        ValueError: Bad recording, topic or output.
    """
    make_folder(arguments.output)
    parts = GoodParts(arguments.output)
    written = known = 0
    for stamp, image in read_recording(arguments.recording, arguments.topic, arguments.count):
        if parts.path_of(stamp).exists():
            known += 1
            continue
        parts.add(image, stamp)
        written += 1
    if known:
        print(f'{known} images already existed', file=sys.stderr)
    print(f'wrote {written} images of {arguments.topic} to {arguments.output}')
    return 0
