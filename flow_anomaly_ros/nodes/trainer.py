# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The trainer node: pictures of good parts to a model, at the machine."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from flow_anomaly_ros.data.good_parts import GoodParts
from flow_anomaly_ros.data.image_messages import message_to_array
from flow_anomaly_ros.nodes.camera_input import CameraInput
from flow_anomaly_ros.nodes.camera_names import camera_names
from flow_anomaly_ros.nodes.model_client import ModelClient
from flow_anomaly_ros.nodes.parameters import check_name, Parameter, ParameterTable, warn_of_unknown
from flow_anomaly_ros.nodes.qos import small_profile
from flow_anomaly_ros.nodes.recent_images import nanoseconds, RecentImages
from flow_anomaly_ros.nodes.run_node import run_node
from flow_anomaly_ros.runtime.command_process import CommandProcess
from flow_anomaly_ros.runtime.option_syntax import parse_assignments
from flow_anomaly_ros.runtime.training_progress import StageProgress
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification

# Seconds between looks at the camera, the child process and the detector.
CHECK_PERIOD_S = 0.2

PARAMETERS = (
    Parameter('camera', 'camera', 'Camera name, as the detector has it.', read_only=True),
    Parameter(
        'topic',
        '',
        'Image topic, of compressed images without the /compressed at its end; empty takes '
        '<camera>/image.',
        check=check_name,
        read_only=True,
    ),
    Parameter(
        'transport',
        'raw',
        'raw reads sensor_msgs/Image, compressed the sensor_msgs/CompressedImage of '
        '<topic>/compressed.',
        choices=('raw', 'compressed'),
        read_only=True,
    ),
    Parameter(
        'data',
        'good',
        'Folder that images of good parts are kept in as PNG files; those that are there count.',
        read_only=True,
    ),
    Parameter('model', 'model.safetensors', 'Model file to write.', read_only=True),
    Parameter('images', 10, 'Images that ~/capture takes.', limits=(1, 100_000)),
    Parameter(
        'capture_interval',
        1.0,
        'Least seconds between two images taken, so that a part is not taken twice.',
        limits=(0.0, 3600.0),
    ),
    Parameter(
        'auto_capture',
        False,
        'Take images at start until as many as `images` are there.',
        read_only=True,
    ),
    Parameter('auto_train', False, 'Train as soon as the images are taken.'),
    Parameter(
        'bag',
        '',
        'rosbag2 recording that ~/capture takes the images from, spread over all of it; empty '
        'takes live ones.',
    ),
    Parameter('method', 'restoration', 'Detection method, see flow-anomaly methods.'),
    Parameter(
        'backbone',
        '',
        'Network that extracts features, such as mobilenet_v2; empty for none.',
    ),
    Parameter('weights', '', 'Weights file of the backbone; empty downloads it.'),
    Parameter(
        'part_class',
        '',
        'Class of the parts in front of the camera, for ~/accept_last and a model of several.',
    ),
    Parameter(
        'options',
        [''],
        'Options of the method, NAME=VALUE, see flow-anomaly methods.',
    ),
    Parameter(
        'image_size',
        256,
        'Shorter side in px that images are reduced to.',
        limits=(32, 4096),
    ),
    Parameter(
        'tile',
        0,
        'Side in px of the overlapping tiles that these are cut into, a multiple of 64; 0: they '
        'are seen whole.',
        limits=(0, 4096),
    ),
    Parameter(
        'false_positive_rate',
        0.01,
        'Share of good parts that may be rejected.',
        limits=(0.0001, 0.49),
    ),
    Parameter('seed', 0, 'The same seed gives the same model.', limits=(0, 2**31 - 1)),
    Parameter(
        'checkpoints',
        '',
        'Folder for the state of a training: ~/train goes on from there if it was interrupted; '
        'empty begins anew.',
    ),
    Parameter('device', 'auto', 'auto, cpu or cuda[:N].'),
    Parameter(
        'threads',
        1,
        'CPU threads of a training, 0 for one per core. Inspection wants the others.',
        limits=(0, 256),
    ),
    Parameter(
        'priority',
        10,
        'Niceness of a training: 0 competes with inspection, 19 takes only what is left.',
        limits=(0, 19),
    ),
    Parameter(
        'detector',
        '',
        'Detector node to hand the model to; empty for none.',
        check=check_name,
    ),
    Parameter('load', True, 'Hand the model to the detector as soon as it is there.'),
    Parameter(
        'recent_images',
        10,
        'Images that are kept for ~/accept_last until their verdicts come; 0 for none, and without '
        'receiving the camera while nothing is captured.',
        limits=(0, 1000),
        read_only=True,
    ),
)


class TrainerNode(Node):
    """Collects images of good parts of one camera and trains its model.

    `PARAMETERS` are its parameters. One thing is done at a time; the rest is refused meanwhile.

    Args:
        options: Passed on to rclpy's node, such as `namespace` and `parameter_overrides`.

    Raises:
        ValueError: A bad camera name; one line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('trainer', **options)
        self.parameters = ParameterTable(self, PARAMETERS)
        warn_of_unknown(self)
        (self._camera,) = camera_names([self.parameters['camera']])
        self._model = Path(self.parameters['model']).expanduser().absolute()
        self._good_parts = GoodParts(Path(self.parameters['data']).expanduser().absolute())
        self._recent = RecentImages(self.parameters['recent_images'])
        self._wanted = self._taken = 0
        self._next_image = 0.0
        self._complaint = ''
        self._child: CommandProcess | None = None
        self._doing = ''
        self._after_child: Callable[[], None] = self._load
        self._is_cancelled = False
        self._bar = StageProgress(quiet=True)
        self._client: ModelClient | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._progress = self.create_publisher(DiagnosticStatus, '~/progress', latched)
        self._input = CameraInput(
            self,
            self._camera,
            self.parameters['topic'],
            self.parameters['transport'] == 'compressed',
        )
        if self.parameters['recent_images']:
            # Only then: a detector that nobody listens to need not inspect.
            self.create_subscription(
                Classification, f'{self._camera}/verdict', self._recent.add_verdict, small_profile()
            )
        for name, action in (
            ('capture', self._capture),
            ('train', self._train),
            ('cancel', self._cancel),
            ('accept_last', self._accept_last),
        ):
            self.create_service(Trigger, f'~/{name}', partial(self._answer, name, action))
        self.create_timer(
            CHECK_PERIOD_S, self._check, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._tell(f'idle, {self._good_parts.count()} good parts in {self.parameters["data"]}')
        if self.parameters['auto_capture']:
            self._capture_what_is_missing()

    def close(self) -> None:
        """Stop whatever goes on."""
        if self._child:
            self._child.stop()
            self._child = None
        self._bar.close()

    # Services -------------------------------------------------------------------------------

    @property
    def _activity(self) -> str:
        if self._child:
            return self._doing
        if self._wanted:
            return 'capturing'
        return 'loading' if self._client and self._client.is_busy else ''

    def _answer(
        self,
        name: str,
        action: Callable[[], str],
        _request: Trigger.Request,
        response: Trigger.Response,
    ) -> Trigger.Response:
        try:
            response.message = action()
            response.success = True
        except ValueError as error:
            response.message = str(error)
            self.get_logger().warning(f'{name}: {response.message}')
        return response

    def _require_idle(self) -> None:
        if activity := self._activity:
            msg = f'not while {activity}: wait, or call ~/cancel'
            raise ValueError(msg)

    def _capture(self, count: int | None = None) -> str:
        self._require_idle()
        count = count or self.parameters['images']
        if bag := self.parameters['bag']:
            topic = self._input.topic
            arguments = ['extract', bag, '--topic', topic, '--count', str(count)]
            arguments += ['--output', str(self._good_parts.folder)]
            self._start('extracting', arguments, self._on_captured)
            return f'taking {count} images of {topic} in {bag}'
        self._wanted, self._taken, self._next_image, self._complaint = count, 0, 0.0, ''
        self._tell(f'capturing 0 of {count}')
        return f'taking the next {count} images of {self._input.topic}'

    def _capture_what_is_missing(self) -> None:
        missing = self.parameters['images'] - self._good_parts.count()
        if missing > 0:
            self._capture(missing)
        elif not self._model.exists():
            self._auto_train()

    def _train(self) -> str:
        self._require_idle()
        count = self._good_parts.count()
        if not count:
            msg = f'no images in {self._good_parts.folder}: call ~/capture first'
            raise ValueError(msg)
        request = self._training_request()
        self._start('training', ['train', '--json-progress', *request.to_arguments()], self._load)
        return f'training on {count} images'

    def _training_request(self) -> TrainingRequest:
        values = self.parameters
        options = {'backbone': values['backbone']} if values['backbone'] else {}
        return TrainingRequest(
            data=(self._good_parts.folder,),
            output=self._model,
            method=values['method'],
            options=options | parse_assignments([*filter(None, values['options'])]),
            weights=_path(values['weights']),
            image_size=values['image_size'],
            tile=values['tile'] or None,
            false_positive_rate=values['false_positive_rate'],
            seed=values['seed'],
            device=values['device'],
            threads=values['threads'],
            checkpoints=_path(values['checkpoints']),
        )

    def _cancel(self) -> str:
        if self._child:
            self._is_cancelled = True
            self._child.cancel()
            return f'no longer {self._doing}'
        if self._wanted:
            self._wanted = 0
            self._tell(f'cancelled, {self._taken} images were taken')
            return f'cancelled; the {self._taken} images that were taken stay'
        if self._client and self._client.is_busy:
            self._client.cancel()
            self._tell('cancelled: the detector may have the model all the same')
            return 'no longer waiting for the detector'
        msg = 'there is nothing to cancel'
        raise ValueError(msg)

    def _accept_last(self) -> str:
        self._require_idle()
        message = self._recent.rejected
        if message is None:
            msg = (
                f'no image of a part that {self._camera}/verdict rejected: '
                'none was, or recent_images is too small'
            )
            raise ValueError(msg)
        if not self._model.exists():
            msg = f'there is no model {self._model} to calibrate: call ~/train first'
            raise ValueError(msg)
        stamp = nanoseconds(message.header.stamp)
        if not stamp:
            msg = f'{self._input.topic} has no stamps: nobody knows which part was rejected'
            raise ValueError(msg)
        path = self._good_parts.path_of(stamp)
        # It may have been captured, or accepted and then not calibrated.
        if not path.exists():
            self._good_parts.add(message_to_array(message), stamp)
        arguments = ['calibrate', '--accept', str(self._model), str(path)]
        for name in ('device', 'threads'):
            arguments += [f'--{name}', str(self.parameters[name])]
        if part_class := self.parameters['part_class']:
            arguments += ['--class', part_class]
        self._start('calibrating', arguments, self._load)
        return f'accepted as {path}'

    # What goes on ---------------------------------------------------------------------------

    def _check(self) -> None:
        is_wanted = self._wanted or self.parameters['recent_images']
        if is_wanted:
            self._input.subscribe(self._on_image)
        else:
            self._input.unsubscribe()
        if self._wanted:
            self._input.warn_throttled(self._input.problem(10.0))
        if self._child:
            self._follow(self._child)
        if self._client:
            self._client.check()

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._recent.add_image(message)
        now = time.monotonic()
        if not self._wanted or now < self._next_image:
            return
        try:
            # A driver that does not stamp its images has them taken when they come.
            stamp = nanoseconds(message.header.stamp) or self.get_clock().now().nanoseconds
            self._good_parts.add(message_to_array(message), stamp)
        except ValueError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                self.get_logger().error(f'not taken: {error}')
                self._tell(f'capturing {self._taken} of {self._wanted}; not taken: {error}')
            return
        self._taken += 1
        self._next_image = now + self.parameters['capture_interval']
        self._tell(f'capturing {self._taken} of {self._wanted}')
        if self._taken == self._wanted:
            self._wanted = 0
            self._tell(f'captured {self._taken} images')
            self._on_captured()

    def _on_captured(self) -> None:
        self._auto_train()

    def _auto_train(self) -> None:
        """Train if that is to happen without a call; nobody waits for an answer then."""
        if not self.parameters['auto_train']:
            return
        try:
            self._train()
        except ValueError as error:
            self._tell(f'failed: {error}', DiagnosticStatus.ERROR)

    def _start(self, doing: str, arguments: list[str], then: Callable[[], None]) -> None:
        self._doing, self._after_child = doing, then
        self._is_cancelled = False
        self._child = CommandProcess(arguments, self.parameters['priority'])
        # On a terminal; elsewhere ~/progress says it all.
        self._bar = StageProgress(quiet=not sys.stderr.isatty())
        self._tell(doing)

    def _follow(self, child: CommandProcess) -> None:
        status = child.poll()
        steps = child.steps()
        for step in steps:
            self._bar(step['stage'], step['step'], step['steps'], step['loss'])
        if steps and status is None:
            self._tell(self._doing, **steps[-1])
        if status is None:
            return
        self._child = None
        self._bar.close()
        if self._is_cancelled:
            self._tell('cancelled')
        elif status:
            self._tell(f'failed: {child.message}', DiagnosticStatus.ERROR)
        else:
            self._tell(f'done: {child.message}')
            self._after_child()

    def _load(self) -> None:
        detector = self.parameters['detector']
        if not detector or not self.parameters['load']:
            return
        if self._client:
            self._client.destroy()
        self._client = ModelClient(self, detector, self._camera, self._on_loaded)
        self._client.load(str(self._model))

    def _on_loaded(self, success: bool, message: str) -> None:
        self._tell(message, DiagnosticStatus.OK if success else DiagnosticStatus.ERROR)

    def _tell(self, message: str, level: bytes = DiagnosticStatus.OK, **values: Any) -> None:
        """Publish what goes on, and log what is not just a step of it."""
        self._progress.publish(
            DiagnosticStatus(
                level=level,
                name=f'{self.get_fully_qualified_name().lstrip("/")}: training',
                message=message,
                hardware_id=self._camera,
                values=[
                    KeyValue(key=name, value='unknown' if value is None else str(value))
                    for name, value in values.items()
                ],
            )
        )
        if level != DiagnosticStatus.OK:
            self.get_logger().error(message)
        elif not values:
            self.get_logger().info(message)


def _path(text: str) -> Path | None:
    """Read a parameter that may be empty."""
    return Path(text).expanduser() if text else None


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node('trainer', _live, args)


def _live() -> None:
    node = TrainerNode()
    try:
        rclpy.spin(node)
    finally:
        node.close()
        node.destroy_node()


if __name__ == '__main__':
    main()
