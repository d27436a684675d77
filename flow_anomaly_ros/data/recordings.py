# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Images of a rosbag2 recording (sqlite3 or mcap), without a ROS installation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flow_anomaly_ros.data.image_messages import message_to_array
from flow_anomaly_ros.data.sampling import evenly_spaced_indices
import numpy as np

IMAGE_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'


def read_recording(path: Path, topic: str, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Read images of a topic, spread evenly over a recording.

    Args:
        path: Folder of the recording.
        topic: Image topic, raw or compressed.
        count: How many images; all if there are fewer.

    Yields:
        When the image was taken in nanoseconds, and the image: HxW or HxWx3 RGB, uint8 or uint16.

    Raises:
        ValueError: No recording, no such topic, no images, or rosbags is not installed; one line.
    """
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import get_typestore, Stores
    except ImportError as error:
        msg = 'reading a recording needs the package rosbags: pip install rosbags'
        raise ValueError(msg) from error
    if not path.exists():
        msg = f'recording {path} does not exist'
        raise ValueError(msg)
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            images = [
                one for one in reader.connections if one.msgtype in (IMAGE_TYPE, COMPRESSED_TYPE)
            ]
            chosen = [one for one in images if one.topic == topic]
            total = sum(one.msgcount for one in chosen)
            if not total:
                topics = ', '.join(sorted({one.topic for one in images if one.msgcount})) or 'none'
                msg = f'recording {path} has no images of {topic}; image topics in it: {topics}'
                raise ValueError(msg)
            wanted = set(evenly_spaced_indices(total, count))
            for index, (connection, recorded, raw) in enumerate(reader.messages(chosen)):
                if index not in wanted:
                    continue
                message: Any = reader.deserialize(raw, connection.msgtype)
                image = message_to_array(message)
                stamp = message.header.stamp
                yield stamp.sec * 10**9 + stamp.nanosec or recorded, image
    except (AnyReaderError, OSError) as error:
        msg = f'{path} is no recording that can be read: {" ".join(str(error).split())}'
        raise ValueError(msg) from error
