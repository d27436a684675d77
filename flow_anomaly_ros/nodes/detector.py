# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The detector node: camera images in, masks, regions and verdicts out.

A managed (lifecycle) node. Configure loads the model, activate subscribes and inspects,
deactivate keeps the model, clean-up frees it.
"""

import threading
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from flow_anomaly_ros.nodes.camera import Camera
from flow_anomaly_ros.nodes.image_conversion import (
    compressed_to_array,
    conversion_backend,
    to_array,
)
from flow_anomaly_ros.nodes.mailbox import Mailbox
from flow_anomaly_ros.nodes.parameters import Parameter, ParameterTable
from flow_anomaly_ros.nodes.process import run_process
from flow_anomaly_ros.nodes.statistics import CameraStatistics
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.scoring.thresholds import RULES, Thresholds
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.publisher import Publisher
from rclpy.timer import Timer
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import CompressedImage, Image

# Seconds between looks at who publishes the images and who wants the results.
DISCOVERY_PERIOD = 0.2
DIAGNOSTICS_PERIOD = 1.0

# 0 keeps what the model was calibrated with.
_CALIBRATED = '0 takes the calibrated one from the model file'
_ANY_SCORE = (0.0, 1e9)

PARAMETERS = (
    Parameter('model', '', 'Model file (.safetensors) written by flow-anomaly train.'),
    Parameter('device', 'auto', 'auto, cpu or cuda[:N]; auto takes a GPU if there is one.'),
    Parameter(
        'threads',
        0,
        'CPU threads of the detector, 0 for one per core. Give each process of a machine its '
        'share: together they must not exceed the cores.',
        limits=(0, 256),
    ),
    Parameter(
        'cameras',
        ['camera'],
        'Names of the cameras. Each one reads <name>/image and writes <name>/mask, '
        '<name>/score_map, <name>/overlay, <name>/defects and <name>/verdict.',
        read_only=True,
    ),
    Parameter(
        'transport',
        'raw',
        'raw reads sensor_msgs/Image from <name>/image, compressed reads '
        'sensor_msgs/CompressedImage from <name>/image/compressed.',
        choices=('raw', 'compressed'),
        read_only=True,
    ),
    Parameter(
        'autostart',
        False,
        'Configure and activate at start, without a lifecycle manager.',
        read_only=True,
    ),
    Parameter(
        'lazy',
        True,
        'Inspect only while somebody subscribes to a result.',
    ),
    Parameter(
        'defect_threshold',
        0.0,
        f'Image score from which a part is a defect; {_CALIBRATED}.',
        limits=_ANY_SCORE,
    ),
    Parameter(
        'uncertain_threshold',
        0.0,
        f'Image score from which a part is uncertain; {_CALIBRATED}.',
        limits=_ANY_SCORE,
    ),
    Parameter(
        'region_threshold',
        0.0,
        f'Peak score that a region has to reach; {_CALIBRATED}.',
        limits=_ANY_SCORE,
    ),
    Parameter(
        'pixel_threshold',
        0.0,
        f'Score above which a pixel belongs to a region; {_CALIBRATED}.',
        limits=_ANY_SCORE,
    ),
    Parameter(
        'min_area',
        1,
        'Regions smaller than this many px of the camera image are left out; a part that has only '
        'such ones is uncertain.',
        limits=(1, 10**9),
    ),
    Parameter(
        'mask_rule',
        'calibrated',
        'Which pixels are abnormal: above the calibrated thresholds, above the mean of the score '
        'map, or above half of its range.',
        choices=RULES,
    ),
)

# Parameter names to fields of Thresholds.
THRESHOLD_PARAMETERS = {
    'defect_threshold': 'defect',
    'uncertain_threshold': 'uncertain',
    'region_threshold': 'region',
    'pixel_threshold': 'pixel',
    'min_area': 'min_area',
    'mask_rule': 'rule',
}


class Frame(NamedTuple):
    """A message of a camera, and when it came on the clock of `time.perf_counter`."""

    message: Image | CompressedImage
    received: float


class DetectorNode(LifecycleNode):
    """Inspects the images of its cameras; see `PARAMETERS` for its parameters.

    Args:
        options: Passed on to rclpy's node, such as `namespace` and `parameter_overrides`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('detector', **options)
        self._engine: Engine | None = None
        self._model = ''
        self._cameras: tuple[Camera, ...] = ()
        self._mailbox = Mailbox()
        self._worker: threading.Thread | None = None
        self._diagnostics_timer: Timer | None = None
        self._discovery_timer: Timer | None = None
        self._diagnostics: Publisher | None = None
        self.parameters = ParameterTable(self, PARAMETERS)
        self.add_on_set_parameters_callback(self._validate_thresholds)
        self.add_post_set_parameters_callback(self._apply_thresholds)

    # Lifecycle ------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model; fails with one line in the log if that is not possible."""
        try:
            self._require_cameras()
            limit_threads(self.parameters['threads'])
            if not self.parameters['model']:
                msg = "parameter 'model' is empty: give a file written by flow-anomaly train"
                raise ValueError(msg)
            started = time.perf_counter()
            engine = Engine.load(self.parameters['model'], self.parameters['device'])
            engine.thresholds = self._thresholds(engine, {})
            engine.warm_up()
        except Exception as error:
            # rclpy would fail the transition without a word.
            self.get_logger().error(f'cannot configure: {" ".join(str(error).split())}')
            return TransitionCallbackReturn.FAILURE
        self._engine = engine
        self._model = self.parameters['model']
        self._cameras = tuple(Camera(self, name) for name in self.parameters['cameras'])
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._diagnostics_timer = self.create_timer(DIAGNOSTICS_PERIOD, self._publish_diagnostics)
        self.get_logger().info(
            f'configured in {time.perf_counter() - started:.1f} s: {engine.manifest.method} model '
            f'{self._model} on {engine.device}, images through '
            f'{conversion_backend()}'
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start inspecting."""
        result = super().on_activate(state)
        self._mailbox = Mailbox()
        for camera in self._cameras:
            camera.statistics = CameraStatistics()
        self._worker = threading.Thread(target=self._inspect_forever, name='inspection')
        self._worker.start()
        self._discovery_timer = self.create_timer(DISCOVERY_PERIOD, self._discover)
        self.get_logger().info(
            'active, waiting for ' + ', '.join(camera.input_topic for camera in self._cameras)
        )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop inspecting, keep the model."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an exception in a transition."""
        self.close()
        return super().on_error(state)

    def close(self) -> None:
        """Stop inspecting and free everything; safe in any state."""
        self._stop()
        self._release()

    def _require_cameras(self) -> None:
        names = self.parameters['cameras']
        if not all(names) or len(set(names)) < max(1, len(names)):
            msg = f"parameter 'cameras' is {names}: give each camera a name of its own"
            raise ValueError(msg)
        for name in names:
            validate_topic_name(f'{name}/image')

    def _stop(self) -> None:
        if self._discovery_timer:
            self.destroy_timer(self._discovery_timer)
            self._discovery_timer = None
        for camera in self._cameras:
            camera.unsubscribe()
        self._mailbox.close()
        if self._worker:
            self._worker.join()
            self._worker = None

    def _release(self) -> None:
        for camera in self._cameras:
            camera.destroy()
        self._cameras = ()
        if self._diagnostics_timer:
            self.destroy_timer(self._diagnostics_timer)
            self._diagnostics_timer = None
        if self._diagnostics:
            self.destroy_publisher(self._diagnostics)
            self._diagnostics = None
        if self._engine:
            self._engine.close()
            self._engine = None

    # Thresholds -----------------------------------------------------------------------------

    def _thresholds(self, engine: Engine, changed: dict[str, object]) -> Thresholds:
        """Return the model's thresholds with those replaced that parameters set."""
        values = {name: self.parameters[name] for name in THRESHOLD_PARAMETERS} | changed
        replaced = {
            THRESHOLD_PARAMETERS[name]: value for name, value in values.items() if value != 0.0
        }
        return engine.manifest.thresholds.override(**replaced)

    def _validate_thresholds(self, parameters: list[RosParameter]) -> SetParametersResult:
        changed = {p.name: p.value for p in parameters if p.name in THRESHOLD_PARAMETERS}
        try:
            if changed and self._engine:
                self._thresholds(self._engine, changed)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_thresholds(self, _parameters: list[RosParameter]) -> None:
        if self._engine:
            self._engine.thresholds = self._thresholds(self._engine, {})

    # Images ---------------------------------------------------------------------------------

    def _discover(self) -> None:
        """Subscribe to cameras that are there and whose results somebody wants."""
        for camera in self._cameras:
            if self.parameters['lazy'] and not camera.is_wanted():
                camera.unsubscribe()
            else:
                camera.subscribe(self._receive)

    def _receive(self, camera: str, message: Image | CompressedImage) -> None:
        self._mailbox.put(camera, Frame(message, time.perf_counter()))

    def _inspect_forever(self) -> None:
        by_name = {camera.name: camera for camera in self._cameras}
        while messages := self._mailbox.take_all():
            frames = {by_name[name]: frame for name, frame in messages.items()}
            try:
                self._inspect(frames)
            except Exception as error:
                # The thread must outlive any one frame.
                for camera in frames:
                    self._report(camera, f'inspection failed: {error!r}')

    def _inspect(self, frames: dict[Camera, Frame]) -> None:
        """Inspect one frame of each camera as one batch, and publish the results."""
        assert self._engine is not None
        taken = time.perf_counter()
        images = {}
        for camera, frame in frames.items():
            decode = to_array if isinstance(frame.message, Image) else compressed_to_array
            try:
                images[camera] = decode(frame.message)
            except Exception as error:
                # One broken camera must not stop the others.
                self._report(camera, str(error))
        decoded = time.perf_counter()
        inspections = self._engine.inspect(list(images.values()))
        for (camera, image), inspection in zip(images.items(), inspections, strict=True):
            frame = frames[camera]
            publishing = time.perf_counter()
            camera.publish(frame.message.header, image, inspection)
            done = time.perf_counter()
            timings = {
                'queue': 1e3 * (taken - frame.received),
                'decode': 1e3 * (decoded - taken),
                **inspection.timings,
                'publish': 1e3 * (done - publishing),
                'total': 1e3 * (done - frame.received),
            }
            camera.statistics.add(str(inspection.verdict), timings)

    def _report(self, camera: Camera, problem: str) -> None:
        if not self.context.ok():
            # An interrupt took ROS away in the middle of a frame.
            return
        # Every problem once, not with every frame.
        if problem != camera.statistics.snapshot().last_error:
            self.get_logger().error(f'{camera.input_topic}: {problem}')
        camera.statistics.add_failure(problem)

    # Diagnostics ----------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        assert self._diagnostics is not None
        array = DiagnosticArray(status=[self._status(camera) for camera in self._cameras])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _status(self, camera: Camera) -> DiagnosticStatus:
        assert self._engine is not None
        statistics = camera.statistics.snapshot()
        level, message = DiagnosticStatus.OK, 'inspecting'
        if self._worker is None:
            message = 'inactive'
        elif statistics.last_error:
            level, message = DiagnosticStatus.ERROR, statistics.last_error
        elif camera.problem:
            level, message = DiagnosticStatus.WARN, camera.problem
        elif not camera.is_subscribed:
            message = 'idle: nobody subscribes to its results'
        values = {
            'model': self._model,
            'device': str(self._engine.device),
            'inspected': statistics.inspected,
            'dropped': self._mailbox.dropped(camera.name),
            'failed': statistics.failed,
            **{f'verdict {name}': count for name, count in statistics.verdicts.items()},
        }
        for stage, (median, high) in statistics.latencies.items():
            values[f'{stage} p50 (ms)'] = f'{median:.1f}'
            values[f'{stage} p95 (ms)'] = f'{high:.1f}'
        return DiagnosticStatus(
            level=level,
            name=f'{self.get_fully_qualified_name().lstrip("/")}: {camera.name}',
            message=message,
            hardware_id=camera.name,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_process('detector', _live, args)


def _live() -> None:
    node = DetectorNode()
    try:
        if node.parameters['autostart']:
            if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                # Without a lifecycle manager nobody could mend and retry it.
                raise SystemExit(1)
            node.trigger_activate()
        rclpy.spin(node)
    finally:
        node.close()
        node.destroy_node()


if __name__ == '__main__':
    main()
