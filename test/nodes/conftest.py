# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of nodes share: a probe node, and executors that spin in the background."""

import gc
import os
import threading

import cv2
import numpy as np
import pytest
import waiting

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


class _Spinner:
    """Spins nodes in a background thread."""

    def __init__(self):
        from rclpy.executors import SingleThreadedExecutor

        self.executor = SingleThreadedExecutor()
        self.nodes = []
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.is_stopped = False
        self.error = None
        self.thread.start()

    def add(self, node):
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def _spin(self):
        from rclpy.exceptions import InvalidHandle

        while not self.is_stopped:
            try:
                self.executor.spin_once(timeout_sec=0.05)
            except InvalidHandle:
                # A test has just destroyed what the executor was about to wait for.
                continue
            except Exception as error:
                # Of a callback, such as a test's assertion; `stop` raises it in the test.
                self.error = error
                return

    def stop(self):
        self.is_stopped = True
        self.thread.join()
        for node in self.nodes:
            self.executor.remove_node(node)
            if hasattr(node, 'close'):
                node.close()
            node.destroy_node()
        if self.error:
            raise self.error


class _Probe:
    """A node that publishes images to a camera and remembers everything that comes back."""

    def __init__(self, spinner, camera='camera', reliable=True):
        from diagnostic_msgs.msg import DiagnosticArray
        import rclpy
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image
        from std_msgs.msg import Header
        from vision_msgs.msg import Classification, Detection2DArray

        self.node = spinner.add(rclpy.create_node('probe'))
        self.received = {}
        self.camera = camera
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self.images = self.node.create_publisher(
            Image, f'{camera}/image', QoSProfile(depth=10, reliability=reliability)
        )
        for topic, message_type in (
            ('mask', Image),
            ('score_map', Image),
            ('overlay', Image),
            ('defects', Detection2DArray),
            ('verdict', Classification),
            ('source', Header),
        ):
            self.node.create_subscription(
                message_type,
                f'{camera}/{topic}',
                lambda message, topic=topic: self.received.setdefault(topic, []).append(message),
                10,
            )
        self.node.create_subscription(
            DiagnosticArray,
            '/diagnostics',
            lambda message: self.received.setdefault('diagnostics', []).append(message),
            10,
        )

    def last(self, topic):
        """Wait for a message of a topic."""
        return waiting.wait_for(lambda: self.received.get(topic), topic, seen=self.seen)[-1]

    def seen(self):
        """How many messages of each topic there are, and the latest of the diagnostics."""
        counts = {topic: len(messages) for topic, messages in self.received.items()}
        return counts, [status.message for status in self.statuses()]

    def statuses(self):
        """The latest diagnostics, of all cameras."""
        arrays = self.received.get('diagnostics')
        return arrays[-1].status if arrays else []

    def verdict_for(self, message):
        """Publish an image until its verdict comes; returns the verdict."""
        stamp = message.header.stamp

        def answer():
            for verdict in self.received.get('verdict', []):
                if verdict.header.stamp == stamp:
                    return verdict
            self.images.publish(message)
            return None

        return waiting.wait_for(answer, 'a verdict', seen=self.seen, pause=0.1)


@pytest.fixture
def spinner():
    """A running ROS context with a background executor."""
    rclpy = pytest.importorskip('rclpy')
    # Lifecycle nodes of tests before live on until they are collected. That must not happen while
    # nodes of this test are made: the participants of both may then wait for each other for ever.
    gc.collect()
    rclpy.init()
    spinner = _Spinner()
    yield spinner
    spinner.stop()
    rclpy.shutdown()


@pytest.fixture
def make_probe(spinner):
    """Make a probe of a camera: `make_probe(camera='camera', reliable=True)`."""
    return lambda *args, **options: _Probe(spinner, *args, **options)


@pytest.fixture
def wait_for():
    """Wait for a condition: `wait_for(is_there, what='it')`, see `helpers/waiting.py`."""
    return waiting.wait_for


def _as_encoding(image, encoding, header):
    """An RGB picture as the message of a camera of an encoding; `padded bgr8` has longer rows."""
    from flow_anomaly_ros.data.image_messages import to_message
    from sensor_msgs.msg import Image

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    message = Image(header=header, height=height, width=width, encoding=encoding, step=width)
    if encoding == 'mono16':
        message.step = 2 * width
        message.data = (grey.astype(np.uint16) * 257).tobytes()
    elif encoding == 'bayer_rggb8':
        mosaic = np.empty_like(grey)
        for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
            mosaic[row::2, column::2] = image[row::2, column::2, channel]
        message.data = mosaic.tobytes()
    elif encoding == 'padded bgr8':
        message.encoding, message.step = 'bgr8', 3 * width + 12
        rows = np.ascontiguousarray(image[..., ::-1]).reshape(height, -1)
        message.data = np.pad(rows, ((0, 0), (0, 12)), constant_values=255).tobytes()
    else:
        pixels = {'rgb8': image, 'bgr8': image[..., ::-1], 'mono8': grey}[encoding]
        return to_message(np.ascontiguousarray(pixels), encoding, header)
    return message


@pytest.fixture
def as_encoding():
    """Make the message of a camera: `as_encoding(rgb, encoding, header)`."""
    return _as_encoding
