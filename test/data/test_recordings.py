# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Images of recordings."""

import cv2
from flow_anomaly_ros import cli
from flow_anomaly_ros.data.images import list_images, read_image
from flow_anomaly_ros.data.recordings import read_recording
import numpy as np
import pytest

pytest.importorskip('rosbags')

from rosbags import rosbag2
from rosbags.typesys import get_typestore, Stores

STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def header(seconds):
    stamp = TYPES['builtin_interfaces/msg/Time'](sec=seconds, nanosec=5)
    return TYPES['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')


def raw_image(index):
    """A red 6x4 image whose brightness is its index; rows are padded."""
    rows = np.zeros((4, 20), np.uint8)
    rows[:, 0:18:3] = index
    return TYPES[RAW](header(index), 4, 6, 'rgb8', 0, 20, rows.reshape(-1))


def compressed_image(index):
    _, data = cv2.imencode('.png', np.full((4, 6), index, np.uint8))
    return TYPES[COMPRESSED](header(index), 'png', data.reshape(-1))


@pytest.fixture(params=['SQLITE3', 'MCAP'])
def recording(request, tmp_path):
    """A recording of 30 raw and 5 compressed images, in either storage."""
    path = tmp_path / 'recording'
    storage = rosbag2.StoragePlugin[request.param]
    with rosbag2.Writer(path, version=9, storage_plugin=storage) as writer:
        raw = writer.add_connection('/front/image', RAW, typestore=STORE)
        compressed = writer.add_connection('/side/compressed', COMPRESSED, typestore=STORE)
        for index in range(1, 31):
            message = STORE.serialize_cdr(raw_image(index), RAW)
            writer.write(raw, index * 10**9, message)
        for index in range(1, 6):
            message = STORE.serialize_cdr(compressed_image(index), COMPRESSED)
            writer.write(compressed, index * 10**9, message)
    return path


def test_images_are_taken_from_all_of_a_recording(recording):
    images = list(read_recording(recording, '/front/image', 3))
    assert [stamp for stamp, _ in images] == [1 * 10**9 + 5, 15 * 10**9 + 5, 30 * 10**9 + 5]
    assert images[2][1].shape == (4, 6, 3)
    assert (images[2][1] == (30, 0, 0)).all()


def test_compressed_images_are_read_too_and_no_more_than_there_are(recording):
    images = list(read_recording(recording, '/side/compressed', 10))
    assert [int(image[0, 0]) for _, image in images] == [1, 2, 3, 4, 5]


def test_images_without_a_stamp_were_taken_when_they_were_recorded(tmp_path):
    image = raw_image(0)
    image.header.stamp.nanosec = 0
    with rosbag2.Writer(tmp_path / 'recording', version=9) as writer:
        connection = writer.add_connection('/front/image', RAW, typestore=STORE)
        for recorded in (7, 8):
            writer.write(connection, recorded, STORE.serialize_cdr(image, RAW))
    images = list(read_recording(tmp_path / 'recording', '/front/image', 2))
    assert [stamp for stamp, _ in images] == [7, 8]


def test_a_topic_without_images_is_refused_with_those_that_have_some(recording):
    with pytest.raises(ValueError, match='image topics in it: /front/image, /side/compressed'):
        list(read_recording(recording, '/rear/image', 10))


def test_a_path_without_a_recording_is_refused(tmp_path):
    with pytest.raises(ValueError, match='does not exist'):
        list(read_recording(tmp_path / 'none', '/front/image', 10))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='cannot read recording'):
        list(read_recording(tmp_path / 'empty', '/front/image', 10))


def test_extract_writes_images_once(recording, tmp_path, capsys):
    output = tmp_path / 'good'
    command = ['extract', str(recording), '--topic', '/front/image', '--output', str(output)]
    assert cli.main([*command, '--count', '4']) == 0
    assert 'wrote 4 images' in capsys.readouterr().out
    assert cli.main([*command, '--count', '4']) == 0
    assert '4 images already existed' in capsys.readouterr().err
    files = list_images(output)
    assert len(files) == 4
    assert read_image(files[0]).shape == (4, 6, 3)


def test_extract_still_takes_the_former_name_of_count(recording, tmp_path, capsys):
    output = tmp_path / 'good'
    command = ['extract', str(recording), '--topic', '/front/image', '--output', str(output)]
    assert cli.main([*command, '--images', '4']) == 0
    expected = 'flow-anomaly: --images is now called --count: use --count\n'
    assert capsys.readouterr().err == expected
    assert len(list_images(output)) == 4
    assert cli.main([*command, '--images', '4', '--count', '4']) == 2
    assert 'give only --count' in capsys.readouterr().err
