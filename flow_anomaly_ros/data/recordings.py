# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Reads images of a rosbag2 recording (sqlite3 or mcap) without a ROS installation."""

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
        count: Number of images; a recording with fewer gives all of them.

    Yields:
        Stamp in nanoseconds (the time of recording if the message has none), and the image: HxW or
        HxWx3 RGB, uint8 or uint16.

    Raises:
        ValueError: The recording cannot be read, has no images of the topic, or rosbags is not
            installed; one line.
    """
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import get_typestore, Stores
    except ImportError as error:
        msg = 'reading a recording requires the package rosbags: pip install rosbags'
        raise ValueError(msg) from error
    if not path.exists():
        msg = f'recording {path} does not exist'
        raise ValueError(msg)
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            images = [
                connection
                for connection in reader.connections
                if connection.msgtype in (IMAGE_TYPE, COMPRESSED_TYPE)
            ]
            selected = [connection for connection in images if connection.topic == topic]
            total = sum(connection.msgcount for connection in selected)
            if not total:
                names = {connection.topic for connection in images if connection.msgcount}
                topics = ', '.join(sorted(names)) or 'none'
                msg = f'recording {path} has no images of {topic}; image topics in it: {topics}'
                raise ValueError(msg)
            wanted = set(evenly_spaced_indices(total, count))
            for index, (connection, recorded, raw) in enumerate(reader.messages(selected)):
                if index not in wanted:
                    continue
                message: Any = reader.deserialize(raw, connection.msgtype)
                image = message_to_array(message)
                stamp = message.header.stamp
                yield stamp.sec * 10**9 + stamp.nanosec or recorded, image
    except (AnyReaderError, OSError) as error:
        msg = f'cannot read recording {path}: {" ".join(str(error).split())}'
        raise ValueError(msg) from error
