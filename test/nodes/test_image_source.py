# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The image source node: folders and videos as a camera."""

import cv2
from flow_anomaly_ros.data.generated import write_dataset
from flow_anomaly_ros.data.images import write_image
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from flow_anomaly_ros.data.image_messages import to_array
from flow_anomaly_ros.nodes.image_source import ImageSourceNode
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

pytestmark = pytest.mark.ros


@pytest.fixture
def show(spinner, wait_for):
    """Show a path; returns the node and the list of what a subscriber receives."""

    def start(path, count, **parameters):
        values = {'path': str(path), 'rate': 50.0} | parameters
        node = ImageSourceNode(
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
        )
        received = []
        node.create_subscription(Image, 'camera/image', received.append, 10)
        spinner.add(node)
        wait_for(lambda: len(received) >= count, what=f'{count} images')
        return node, received

    return start


def grey_folder(path, values, dtype=np.uint8):
    path.mkdir()
    for index, value in enumerate(values):
        write_image(path / f'{index}.png', np.full((8, 6), value, dtype))
    return path


def test_a_folder_is_shown_in_order_and_again(tmp_path, show):
    _, received = show(grey_folder(tmp_path / 'images', (10, 20)), 4)
    assert [to_array(message)[0, 0] for message in received[:4]] == [10, 20, 10, 20]
    assert received[0].encoding == 'mono8'
    assert received[0].header.frame_id == 'camera_optical_frame'


def test_without_looping_it_ends_after_the_last_image(tmp_path, show, wait_for):
    node, received = show(grey_folder(tmp_path / 'images', (10, 20)), 2, loop=False)
    wait_for(lambda: node.is_done)
    assert len(received) == 2


def test_unreadable_files_are_skipped_and_named_once(tmp_path, show, capfd):
    folder = grey_folder(tmp_path / 'images', (10, 20))
    (folder / '0.png').write_bytes(b'no image')
    _, received = show(folder, 3)
    assert {int(to_array(message)[0, 0]) for message in received} == {20}
    assert capfd.readouterr().err.count('skipped an image: ') == 1


def test_sixteen_bits_are_kept(tmp_path, show):
    _, received = show(grey_folder(tmp_path / 'images', (40000,), np.uint16), 1)
    assert to_array(received[0])[0, 0] == 40000


def test_the_test_images_of_a_data_folder_are_published(tmp_path, show):
    data = write_dataset(tmp_path / 'data', train=1, good=1, per_defect=0, size=32)
    _, received = show(data, 1)
    expected = cv2.imread(str(data / 'test' / 'good' / '000.png'))[..., ::-1]
    np.testing.assert_array_equal(to_array(received[0]), expected)


def test_a_video_is_shown(tmp_path, show):
    path = tmp_path / 'film.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for value in (50, 200):
        writer.write(np.full((48, 64, 3), (value, 0, 0), np.uint8))
    writer.release()
    _, received = show(path, 3)
    first, second = to_array(received[0]), to_array(received[1])
    assert first.shape == (48, 64, 3)
    # Blue is the last channel of RGB; MJPG is not exact.
    assert abs(int(first[5, 5, 2]) - 50) < 15
    assert abs(int(second[5, 5, 2]) - 200) < 15


def test_a_folder_without_readable_images_is_refused(tmp_path, show):
    folder = grey_folder(tmp_path / 'images', (10,))
    (folder / '0.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match='none of the images'):
        ImageSourceNode(
            parameter_overrides=[Parameter('path', value=str(folder)), Parameter('rate', value=1.0)]
        ).publish_next()


def test_an_empty_path_is_refused(show):
    with pytest.raises(ValueError, match='parameter path is empty'):
        ImageSourceNode()
