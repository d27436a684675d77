# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The image source node: a folder or a video as a camera."""

from collections.abc import Iterator
from pathlib import Path

import cv2
from flow_anomaly_ros.data.folder import read_folder
from flow_anomaly_ros.data.image_messages import to_message
from flow_anomaly_ros.data.images import ImageReadError, read_image
from flow_anomaly_ros.nodes.parameters import Parameter, ParameterTable, warn_of_unknown
from flow_anomaly_ros.nodes.qos import output_profile
from flow_anomaly_ros.nodes.run_node import run_node
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm')

PARAMETERS = (
    Parameter(
        'path',
        '',
        'Video file, folder of images, or folder in MVTec layout, of which the test images are '
        'shown.',
        read_only=True,
    ),
    Parameter('camera', 'camera', 'Camera name: images go to <camera>/image.', read_only=True),
    Parameter('frame_id', 'camera_optical_frame', 'frame_id of the image headers.'),
    Parameter(
        'rate',
        5.0,
        'Images per second; 0 shows the next image whenever ~/next is called, as a '
        'triggered camera does, and the same one again with ~/repeat.',
        limits=(0.0, 1000.0),
        read_only=True,
    ),
    Parameter('loop', True, 'Start again after the last image; otherwise the node ends.'),
    Parameter(
        'wait_for_subscriber',
        True,
        'Show images only while somebody subscribes to them.',
    ),
)


class ImageSourceNode(Node):
    """Publishes <camera>/image, and with the same stamp <camera>/source.

    The latter is a std_msgs/Header whose frame_id is the file the image came from: who knows the
    truth about a file can compare it with the verdict.

    Args:
        parameter_overrides: Parameters that are set as if on the command line.

    Raises:
        ValueError: Nothing to show at the path; one line.
    """

    def __init__(self, parameter_overrides: list[RosParameter] | None = None) -> None:
        super().__init__('image_source', parameter_overrides=parameter_overrides)
        self.parameters = ParameterTable(self, PARAMETERS)
        warn_of_unknown(self)
        if not self.parameters['path']:
            # Path('') would be the current folder.
            msg = 'parameter path is empty: give a video file or a folder of images'
            raise ValueError(msg)
        self._path = Path(self.parameters['path']).expanduser()
        self._frames = open_frames(self._path)
        self._skipped: set[str] = set()
        self._current: tuple[str, np.ndarray] | None = None
        self.is_done = False
        camera = self.parameters['camera']
        self._image = self.create_publisher(Image, f'{camera}/image', output_profile())
        self._source = self.create_publisher(Header, f'{camera}/source', output_profile())
        rate = self.parameters['rate']
        if rate > 0:
            self._timer = self.create_timer(1 / rate, self._show_if_wanted)
        else:
            self.create_service(Trigger, '~/next', self._on_next)
            self.create_service(Trigger, '~/repeat', self._on_repeat)
        self.get_logger().info(
            f'showing {self._path} on {self._image.topic_name} '
            + (f'at {rate:g} images per second' if rate > 0 else 'at each call of ~/next')
        )

    def _show_if_wanted(self) -> None:
        if self.parameters['wait_for_subscriber'] and not self._image.get_subscription_count():
            return
        self.show_next()

    def _on_next(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self.parameters['wait_for_subscriber'] and not self._image.get_subscription_count():
            response.message = f'nobody subscribes to {self._image.topic_name} yet'
            return response
        response.message = self.show_next()
        response.success = bool(response.message)
        if not response.success:
            response.message = 'that was the last image'
        return response

    def _on_repeat(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._current is not None
        response.message = self._show(*self._current) if self._current else 'no image was shown yet'
        return response

    def show_next(self) -> str:
        """Publish the next readable frame; returns its name, empty after the last one.

        Raises:
            ValueError: None of the images can be read.
        """
        while True:
            try:
                self._current = next(self._frames)
                return self._show(*self._current)
            except ImageReadError as error:
                # Once, not in every loop.
                if str(error) not in self._skipped:
                    self._skipped.add(str(error))
                    self.get_logger().warning(f'skipped: {error}')
            except StopIteration:
                if self._current is None:
                    msg = f'none of the images in {self._path} is readable'
                    raise ValueError(msg) from None
                if not self.parameters['loop']:
                    self.is_done = True
                    return ''
                self._frames = open_frames(self._path)

    def _show(self, name: str, image: np.ndarray) -> str:
        stamp = self.get_clock().now().to_msg()
        encoding = {(2, 1): 'mono8', (2, 2): 'mono16', (3, 1): 'rgb8'}.get(
            (image.ndim, image.dtype.itemsize)
        )
        if encoding is None:
            # 16 bit colour has no encoding that common viewers show.
            image, encoding = (image >> 8).astype(np.uint8), 'rgb8'
        header = Header(stamp=stamp, frame_id=self.parameters['frame_id'])
        self._source.publish(Header(stamp=stamp, frame_id=name))
        self._image.publish(to_message(image, encoding, header))
        return name


class _Frames:
    """Iterates over (name, image); unlike a generator it goes on after an unreadable file."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = iter(paths)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        return self

    def __next__(self) -> tuple[str, np.ndarray]:
        path = next(self._paths)
        return str(path), read_image(path)


def open_frames(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Iterate over the (name, image) pairs of a folder or a video.

    Raises:
        ValueError: Nothing to show there. The iterator raises ImageReadError for a file that
            cannot be read, and goes on with the next one.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _video_frames(path)
    folder = read_folder(path)
    return _Frames(tuple(sample.path for sample in folder.test) or folder.train)


def _video_frames(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    video = cv2.VideoCapture(str(path))
    if not path.is_file() or not video.isOpened():
        msg = f'cannot open video {path}: check the path and the format'
        raise ValueError(msg)

    def frames() -> Iterator[tuple[str, np.ndarray]]:
        index = 0
        while True:
            there, frame = video.read()
            if not there:
                video.release()
                return
            yield f'{path}#{index}', np.ascontiguousarray(frame[..., ::-1])
            index += 1

    return frames()


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted or has shown everything."""
    run_node('image_source', _live, args)


def _live() -> None:
    node = ImageSourceNode()
    try:
        while not node.is_done:
            rclpy.spin_once(node, timeout_sec=1.0)
        # Let the last answer and the last image leave.
        rclpy.spin_once(node, timeout_sec=0.5)
    finally:
        node.destroy_node()


if __name__ == '__main__':
    main()
