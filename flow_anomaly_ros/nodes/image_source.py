# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The image source node: publishes a folder of images or a video like a camera."""

from collections.abc import Iterator
from pathlib import Path

import cv2
from flow_anomaly_ros.data.folder import read_folder
from flow_anomaly_ros.data.image_messages import to_message
from flow_anomaly_ros.data.images import ImageReadError, read_image
from flow_anomaly_ros.nodes.parameters.image_source import ImageSourceParameters
from flow_anomaly_ros.nodes.parameters.listener import ParameterListener, warn_unknown_parameters
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


class ImageSourceNode(Node):
    """Publishes <camera>/image, and with the same stamp <camera>/source.

    The source is a std_msgs/Header whose frame_id is the file of the image, so that verdicts can be
    compared with the ground truth of the file. The parameters are `ImageSourceParameters`.

    Args:
        parameter_overrides: Parameters that are set as if on the command line.

    Raises:
        ValueError: There are no images at the path; one line.
    """

    def __init__(self, parameter_overrides: list[RosParameter] | None = None) -> None:
        super().__init__('image_source', parameter_overrides=parameter_overrides)
        self._parameter_listener = ParameterListener(self, ImageSourceParameters)
        warn_unknown_parameters(self)
        parameters = self.parameters
        if not parameters.path:
            # Path('') would be the current folder.
            msg = 'parameter path is empty: set it to a video file or a folder of images'
            raise ValueError(msg)
        self._path = Path(parameters.path).expanduser()
        self._frames = open_frames(self._path)
        self._skipped: set[str] = set()
        self._current: tuple[str, np.ndarray] | None = None
        self.is_done = False
        camera = parameters.camera
        self._image = self.create_publisher(Image, f'{camera}/image', output_profile())
        self._source = self.create_publisher(Header, f'{camera}/source', output_profile())
        rate = parameters.rate
        if rate > 0:
            self._timer = self.create_timer(1 / rate, self._on_timer)
        else:
            self.create_service(Trigger, '~/next', self._on_next)
            self.create_service(Trigger, '~/repeat', self._on_repeat)
        self.get_logger().info(
            f'publishing {self._path} on {self._image.topic_name} '
            + (f'at {rate:g} images per second' if rate > 0 else 'at each call of ~/next')
        )

    @property
    def parameters(self) -> ImageSourceParameters:
        """The present values of the parameters."""
        return self._parameter_listener.values

    def _is_waiting(self) -> bool:
        is_seen = self._image.get_subscription_count() > 0
        return self.parameters.wait_for_subscriber and not is_seen

    def _on_timer(self) -> None:
        if not self._is_waiting():
            self.publish_next()

    def _on_next(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._is_waiting():
            response.message = f'no subscriber on {self._image.topic_name} yet'
            return response
        response.message = self.publish_next()
        response.success = bool(response.message)
        if not response.success:
            response.message = 'all images have been published'
        return response

    def _on_repeat(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._current is not None
        if self._current:
            response.message = self._publish(*self._current)
        else:
            response.message = 'no image has been published yet'
        return response

    def publish_next(self) -> str:
        """Publish the next readable image.

        Returns:
            Name of the image; empty after the last one.

        Raises:
            ValueError: None of the images can be read; one line.
        """
        while True:
            try:
                self._current = next(self._frames)
                return self._publish(*self._current)
            except ImageReadError as error:
                # Report a file once, not in every loop.
                if str(error) not in self._skipped:
                    self._skipped.add(str(error))
                    self.get_logger().warning(f'skipped an image: {error}')
            except StopIteration:
                if self._current is None:
                    msg = f'none of the images in {self._path} is readable: see the warnings above'
                    raise ValueError(msg) from None
                if not self.parameters.loop:
                    self.is_done = True
                    return ''
                self._frames = open_frames(self._path)

    def _publish(self, name: str, image: np.ndarray) -> str:
        stamp = self.get_clock().now().to_msg()
        encoding = {(2, 1): 'mono8', (2, 2): 'mono16', (3, 1): 'rgb8'}.get(
            (image.ndim, image.dtype.itemsize)
        )
        if encoding is None:
            # Common viewers show no encoding of 16-bit colour.
            image, encoding = (image >> 8).astype(np.uint8), 'rgb8'
        header = Header(stamp=stamp, frame_id=self.parameters.frame_id)
        self._source.publish(Header(stamp=stamp, frame_id=name))
        self._image.publish(to_message(image, encoding, header))
        return name


class _Frames:
    """Iterates over (name, image); unlike a generator it continues after an unreadable file."""

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
        ValueError: There are no images at the path; one line. The iterator raises ImageReadError
            for a file that cannot be read, and continues with the next one.
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
            is_read, frame = video.read()
            if not is_read:
                video.release()
                return
            yield f'{path}#{index}', np.ascontiguousarray(frame[..., ::-1])
            index += 1

    return frames()


def main(args: list[str] | None = None) -> None:
    """Run the image source node until it is interrupted or has published all images."""
    run_node('image_source', _spin, args)


def _spin() -> None:
    node = ImageSourceNode()
    try:
        while not node.is_done:
            rclpy.spin_once(node, timeout_sec=1.0)
        # Send the last response and the last image before exiting.
        rclpy.spin_once(node, timeout_sec=0.5)
    finally:
        node.destroy_node()


if __name__ == '__main__':
    main()
