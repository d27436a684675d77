# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The trainer node: captures images of good parts at the machine and trains a model."""

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
from flow_anomaly_ros.nodes.camera_names import require_camera_names
from flow_anomaly_ros.nodes.model_client import ModelClient
from flow_anomaly_ros.nodes.parameters.listener import ParameterListener, warn_unknown_parameters
from flow_anomaly_ros.nodes.parameters.trainer import TrainerParameters
from flow_anomaly_ros.nodes.qos import small_profile
from flow_anomaly_ros.nodes.recent_images import RecentImages
from flow_anomaly_ros.nodes.run_node import run_node
from flow_anomaly_ros.nodes.stamps import nanoseconds
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

# Seconds between checks of the camera, the training process and the detector.
CHECK_PERIOD_S = 0.2


class TrainerNode(Node):
    """Collects images of good parts of one camera and trains its model.

    Its parameters are `TrainerParameters`. Only one of capturing, training, calibrating and loading
    runs at a time; service calls during it are refused.

    Args:
        options: Arguments of rclpy's node, such as `namespace` and `parameter_overrides`.

    Raises:
        ValueError: The camera name or a parameter is invalid; one line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('trainer', **options)
        self._parameter_listener = ParameterListener(self, TrainerParameters)
        warn_unknown_parameters(self)
        parameters = self.parameters
        self._camera = parameters.camera
        require_camera_names((self._camera,))
        self._model = Path(parameters.model).expanduser().absolute()
        self._good_parts = GoodParts(Path(parameters.data).expanduser().absolute())
        self._recent = RecentImages(parameters.recent_images)
        # Images of the running capture: how many it takes, and has taken.
        self._wanted = self._taken = 0
        self._next_image = 0.0
        self._last_error = ''
        self._process: CommandProcess | None = None
        self._process_activity = ''
        self._after_process: Callable[[], None] = self._load
        self._is_cancelled = False
        self._bar = StageProgress(quiet=True)
        self._client: ModelClient | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._progress = self.create_publisher(DiagnosticStatus, '~/progress', latched)
        self._input = CameraInput(
            self,
            self._camera,
            parameters.topic,
            parameters.transport == 'compressed',
        )
        if parameters.recent_images:
            # A subscription to the verdict makes a lazy detector inspect.
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
        self._report(f'idle, {self._good_parts.count()} images of good parts in {parameters.data}')
        if parameters.auto_capture:
            self._capture_missing()

    @property
    def parameters(self) -> TrainerParameters:
        """The present values of the parameters."""
        return self._parameter_listener.values

    def close(self) -> None:
        """Stop a running training or calibration."""
        if self._process:
            self._process.stop()
            self._process = None
        self._bar.close()

    # Services -------------------------------------------------------------------------------

    @property
    def _activity(self) -> str:
        if self._process:
            return self._process_activity
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
            msg = f'busy {activity}: wait, or call ~/cancel'
            raise ValueError(msg)

    def _capture(self, count: int | None = None) -> str:
        self._require_idle()
        count = count or self.parameters.images
        if bag := self.parameters.bag:
            topic = self._input.topic
            arguments = ['extract', bag, '--topic', topic, '--count', str(count)]
            arguments += ['--output', str(self._good_parts.folder)]
            self._start('extracting', arguments, self._auto_train)
            return f'extracting {count} images of {topic} from {bag}'
        self._wanted, self._taken, self._next_image, self._last_error = count, 0, 0.0, ''
        self._report(f'capturing 0 of {count}')
        return f'capturing the next {count} images of {self._input.topic}'

    def _capture_missing(self) -> None:
        missing = self.parameters.images - self._good_parts.count()
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
        options = {'backbone': values.backbone} if values.backbone else {}
        return TrainingRequest(
            data=(self._good_parts.folder,),
            output=self._model,
            method=values.method,
            options=options | parse_assignments([*filter(None, values.options)]),
            weights=_path(values.weights),
            image_size=values.image_size,
            tile=values.tile or None,
            false_positive_rate=values.false_positive_rate,
            uncertain_rate=values.uncertain_rate,
            seed=values.seed,
            device=values.device,
            threads=values.threads,
            checkpoints=_path(values.checkpoints),
        )

    def _cancel(self) -> str:
        if self._process:
            self._is_cancelled = True
            self._process.cancel()
            return f'cancel requested while {self._process_activity}'
        if self._wanted:
            self._wanted = 0
            self._report(f'capture cancelled after {self._taken} images')
            return f'capture cancelled; the {self._taken} captured images are kept'
        if self._client and self._client.is_busy:
            self._client.cancel()
            self._report('cancelled: the detector may still load the model')
            return 'no longer waiting for the detector'
        msg = 'there is nothing to cancel'
        raise ValueError(msg)

    def _accept_last(self) -> str:
        self._require_idle()
        message = self._recent.rejected
        if message is None:
            msg = (
                f'no image of a rejected part: none was rejected on {self._camera}/verdict, or '
                'recent_images is too small: increase it'
            )
            raise ValueError(msg)
        if not self._model.exists():
            msg = f'model file {self._model} does not exist: call ~/train first'
            raise ValueError(msg)
        stamp = nanoseconds(message.header.stamp)
        if not stamp:
            msg = f'images of {self._input.topic} have no stamps: make the camera driver stamp them'
            raise ValueError(msg)
        path = self._good_parts.path_of(stamp)
        # It may have been captured, or accepted by a call whose calibration failed.
        if not path.exists():
            self._good_parts.add(message_to_array(message), stamp)
        arguments = ['calibrate', '--accept', str(self._model), str(path)]
        for name in ('device', 'threads'):
            arguments += [f'--{name}', str(getattr(self.parameters, name))]
        if part_class := self.parameters.part_class:
            arguments += ['--class', part_class]
        self._start('calibrating', arguments, self._load)
        return f'accepted as {path}'

    # Progress -------------------------------------------------------------------------------

    def _check(self) -> None:
        is_wanted = self._wanted or self.parameters.recent_images
        if is_wanted:
            self._input.subscribe(self._on_image)
        else:
            self._input.unsubscribe()
        if self._wanted:
            self._input.warn_throttled(self._input.problem(10.0))
        if self._process:
            self._follow(self._process)
        if self._client:
            self._client.check()

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._recent.add_image(message)
        now = time.monotonic()
        if not self._wanted or now < self._next_image:
            return
        try:
            # For a driver that does not stamp its images, the time of arrival is used.
            stamp = nanoseconds(message.header.stamp) or self.get_clock().now().nanoseconds
            self._good_parts.add(message_to_array(message), stamp)
        except ValueError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                self.get_logger().error(f'skipped an image: {error}')
                progress = f'capturing {self._taken} of {self._wanted}'
                self._report(f'{progress}; skipped an image: {error}')
            return
        self._taken += 1
        self._next_image = now + self.parameters.capture_interval
        self._report(f'capturing {self._taken} of {self._wanted}')
        if self._taken == self._wanted:
            self._wanted = 0
            self._report(f'captured {self._taken} images')
            self._auto_train()

    def _auto_train(self) -> None:
        """Train if `auto_train` is set; report a refusal, since no caller waits for a response."""
        if not self.parameters.auto_train:
            return
        try:
            self._train()
        except ValueError as error:
            self._report(f'failed: {error}', DiagnosticStatus.ERROR)

    def _start(self, activity: str, arguments: list[str], then: Callable[[], None]) -> None:
        self._process_activity, self._after_process = activity, then
        self._is_cancelled = False
        self._process = CommandProcess(arguments, self.parameters.priority)
        # A bar on a terminal only; ~/progress has the same information.
        self._bar = StageProgress(quiet=not sys.stderr.isatty())
        self._report(activity)

    def _follow(self, process: CommandProcess) -> None:
        status = process.poll()
        steps = process.steps()
        for step in steps:
            self._bar(step['stage'], step['step'], step['steps'], step['loss'])
        if steps and status is None:
            self._report(self._process_activity, **steps[-1])
        if status is None:
            return
        self._process = None
        self._bar.close()
        if self._is_cancelled:
            self._report('cancelled')
        elif status:
            self._report(f'failed: {process.message}', DiagnosticStatus.ERROR)
        else:
            self._report(f'done: {process.message}')
            self._after_process()

    def _load(self) -> None:
        detector = self.parameters.detector
        if not detector or not self.parameters.load:
            return
        if self._client:
            self._client.destroy()
        self._client = ModelClient(self, detector, self._camera, self._on_loaded)
        self._client.load(str(self._model))

    def _on_loaded(self, success: bool, message: str) -> None:
        self._report(message, DiagnosticStatus.OK if success else DiagnosticStatus.ERROR)

    def _report(self, message: str, level: bytes = DiagnosticStatus.OK, **values: Any) -> None:
        """Publish progress; log it unless it is a training step."""
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
    """Run the trainer node until it is interrupted."""
    run_node('trainer', _spin, args)


def _spin() -> None:
    node = TrainerNode()
    try:
        rclpy.spin(node)
    finally:
        node.close()
        node.destroy_node()


if __name__ == '__main__':
    main()
