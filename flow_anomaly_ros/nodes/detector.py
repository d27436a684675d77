# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The detector node: camera images in, masks, regions and verdicts out.

A managed (lifecycle) node. Configure loads the models, activate subscribes and inspects,
deactivate keeps the models, clean-up frees them.
"""

from collections.abc import Callable
import functools
from functools import partial
import threading
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from flow_anomaly_ros.data.image_messages import conversion_backend, message_to_array
from flow_anomaly_ros.errors import error_summary
from flow_anomaly_ros.nodes.camera import Camera
from flow_anomaly_ros.nodes.camera_names import camera_names
from flow_anomaly_ros.nodes.diagnostics import camera_status, NO_MODEL
from flow_anomaly_ros.nodes.latest_frame_buffer import LatestFrameBuffer
from flow_anomaly_ros.nodes.model_manager import LoadResult, ModelManager, RuntimeOptions
from flow_anomaly_ros.nodes.parameters import Parameter, ParameterTable, warn_of_unknown
from flow_anomaly_ros.nodes.run_node import run_node
from flow_anomaly_ros.nodes.statistics import CameraStatistics
from flow_anomaly_ros.runtime.backends.base import PRECISIONS
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.engine import Engine
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.publisher import Publisher
from rclpy.task import Future
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
import torch

# Seconds between looks at who publishes the images and who wants the results.
DISCOVERY_PERIOD_S = 0.2
DIAGNOSTICS_PERIOD_S = 1.0
_AT_LOADING = 'Counts for models that are loaded from then on: call ~/load_model.'

# Those of each camera are in `camera.CAMERA_PARAMETERS`.
PARAMETERS = (
    Parameter(
        'device',
        'auto',
        'auto, cpu or cuda[:N]; auto takes a GPU if there is one. For .onnx models also tensorrt, '
        f'for OpenVINO models also the names of its devices. {_AT_LOADING}',
    ),
    Parameter(
        'precision',
        'float32',
        'What networks compute in, as far as the device has it. Thresholds were calibrated with '
        f'float32: check them after a change. {_AT_LOADING}',
        choices=PRECISIONS,
    ),
    Parameter(
        'compile',
        False,
        'Compile .safetensors models when they are loaded (torch.compile), which takes a minute. '
        f'{_AT_LOADING}',
    ),
    Parameter(
        'threads',
        0,
        'CPU threads of the detector, 0 for one per core. Give each process of a machine its '
        'share: together they must not exceed the cores. Counts when the detector is configured.',
        limits=(0, 256),
    ),
    Parameter(
        'cameras',
        ['camera'],
        'Names of the cameras. Each one has parameters of its own, <name>.model and others, reads '
        '<name>/image and writes <name>/mask, <name>/score_map, <name>/overlay, <name>/defects and '
        '<name>/verdict.',
        read_only=True,
    ),
    Parameter(
        'autostart',
        False,
        'Configure and activate at start, without a lifecycle manager.',
        read_only=True,
    ),
    Parameter(
        'await_models',
        False,
        'Wait for model files that are not there yet or cannot be loaded, as in a cell that is '
        'still to be trained, and inspect with the others; false refuses to configure.',
    ),
    Parameter(
        'lazy',
        True,
        'Inspect only while somebody subscribes to a result.',
    ),
)


class Frame(NamedTuple):
    """A message of a camera, and when it came on the clock of `time.perf_counter`."""

    message: Image | CompressedImage
    received: float


class DecodedFrame(NamedTuple):
    """A frame of a camera as an array, and the milliseconds it took so far by stage."""

    camera: Camera
    frame: Frame
    image: np.ndarray
    timings: dict[str, float]


def log_exceptions(
    transition: Callable[['DetectorNode', LifecycleState], TransitionCallbackReturn],
) -> Callable[['DetectorNode', LifecycleState], TransitionCallbackReturn]:
    """Let a transition log what goes wrong in it: rclpy takes exceptions without a word."""

    @functools.wraps(transition)
    def call(node: 'DetectorNode', state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            what = transition.__name__.removeprefix('on_')
            node.get_logger().error(f'cannot {what}: {error_summary(error)}')
            raise

    return call


class DetectorNode(LifecycleNode):
    """Inspects the images of its cameras.

    `PARAMETERS` are its parameters, `camera.CAMERA_PARAMETERS` those of each camera. The service
    ~/load_model (std_srvs/Trigger) loads the models that the parameters name where these, or the
    files, have changed, while the old ones go on inspecting; ~/<camera>/load_model that of one.

    Args:
        options: Passed on to rclpy's node, such as `namespace` and `parameter_overrides`.

    Raises:
        ValueError: Bad camera names or parameters; one line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('detector', **options)
        self._is_configured = False
        # What `threads: 0` goes back to.
        self._all_threads = torch.get_num_threads()
        # Held while frames are inspected, so that models change between two frames.
        self._inspecting = threading.Lock()
        self._frames = LatestFrameBuffer()
        self._worker: threading.Thread | None = None
        # Simulated time may stand still.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer: Timer | None = None
        self._discovery_timer: Timer | None = None
        self._diagnostics: Publisher | None = None
        self.parameters = ParameterTable(self, PARAMETERS)
        self._cameras = tuple(
            Camera(self, name) for name in camera_names(self.parameters['cameras'])
        )
        # Launch files give config/detector.yaml, with its one camera, also to nodes of other ones.
        is_its_own = 'camera' in self.parameters['cameras']
        warn_of_unknown(self, expected=() if is_its_own else ('camera.',))
        self._models = ModelManager(self._cameras, self._inspecting)
        # Held while models are loaded or freed: clean-up waits for a ~/load_model that is at work.
        # Whoever holds it may take `_inspecting`, never the other way round.
        self._loading = threading.Lock()
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state
        self.add_on_set_parameters_callback(self._validate_criteria)
        self.add_post_set_parameters_callback(self._apply_criteria)
        # LoadResult takes seconds, in which images are to be received: a thread loads, while the
        # answer waits in a callback group of its own.
        group = MutuallyExclusiveCallbackGroup()
        for name, cameras in (
            ('~/load_model', self._cameras),
            *((f'~/{camera.name}/load_model', (camera,)) for camera in self._cameras),
        ):
            on_call = partial(self._on_load_model, cameras)
            self.create_service(Trigger, name, on_call, callback_group=group)

    # Lifecycle ------------------------------------------------------------------------------

    def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """Refuse transitions that the present state does not have: rclpy would end the process."""
        available = {
            number: label for number, label, *_ in self._state_machine.available_transitions
        }
        # rclpy itself refuses unknown labels.
        if not request.transition.label and request.transition.id not in available:
            self.get_logger().warning(
                f'transition {request.transition.id} refused: the detector is '
                f'{self._state_machine.current_state[1]}, which has {", ".join(available.values())}'
            )
            return response
        return self._change_state(request, response)

    @log_exceptions
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the models; fails with one line in the log if that is not possible."""
        started = time.perf_counter()
        limit_threads(self.parameters['threads'] or self._all_threads)
        with self._loading:
            news, problems, waiting = self._load_models(self._cameras)
            is_possible = not problems or self.parameters['await_models']
            if not is_possible:
                self._models.release()
        if problems:
            # rclpy would fail the transition without a word.
            what = 'configuring without' if is_possible else 'cannot configure'
            self.get_logger().error(f'{what}: {"; ".join(problems)}')
        if not is_possible:
            return TransitionCallbackReturn.FAILURE
        for camera in self._cameras:
            camera.open()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._diagnostics_timer = self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=self._steady
        )
        self._is_configured = True
        self.get_logger().info(
            f'configured in {time.perf_counter() - started:.1f} s, images through '
            f'{conversion_backend()}, models: {", ".join([*news, *waiting]) or "none"}'
        )
        return super().on_configure(state)

    @log_exceptions
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start inspecting."""
        result = super().on_activate(state)
        self._frames = LatestFrameBuffer()
        for camera in self._cameras:
            camera.statistics = CameraStatistics()
            camera.input.restart()
            if camera.engine is None:
                why = camera.model_problem or NO_MODEL.format(camera=camera.name)
                self.get_logger().warning(f'camera {camera.name}: {why}')
        worker = threading.Thread(target=self._inspect_forever, name='inspection')
        worker.start()
        self._worker = worker
        self._discovery_timer = self.create_timer(
            DISCOVERY_PERIOD_S, self._discover, clock=self._steady
        )
        self.get_logger().info(
            'active, waiting for ' + ', '.join(camera.input.topic for camera in self._cameras)
        )
        return result

    @log_exceptions
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop inspecting, keep the models."""
        self._stop()
        return super().on_deactivate(state)

    @log_exceptions
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the models."""
        self._release()
        return super().on_cleanup(state)

    @log_exceptions
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

    def _stop(self) -> None:
        if self._discovery_timer:
            self.destroy_timer(self._discovery_timer)
            self._discovery_timer = None
        for camera in self._cameras:
            if camera.is_open:
                camera.input.unsubscribe()
        self._frames.close()
        if self._worker:
            self._worker.join()
            self._worker = None

    def _release(self) -> None:
        with self._loading:
            self._is_configured = False
            self._models.release()
        for camera in self._cameras:
            camera.close()
        if self._diagnostics_timer:
            self.destroy_timer(self._diagnostics_timer)
            self._diagnostics_timer = None
        if self._diagnostics:
            self.destroy_publisher(self._diagnostics)
            self._diagnostics = None

    # ModelManager and criteria --------------------------------------------------------------------

    def _load_models(self, cameras: tuple[Camera, ...]) -> LoadResult:
        execution = RuntimeOptions(
            *(self.parameters[x] for x in ('device', 'precision', 'compile'))
        )
        return self._models.load(cameras, execution, self.parameters['await_models'])

    async def _on_load_model(
        self,
        cameras: tuple[Camera, ...],
        _request: Trigger.Request,
        response: Trigger.Response,
    ) -> Trigger.Response:
        executor = self.executor
        assert executor is not None
        done: Future = Future()
        done.add_done_callback(lambda _: executor.wake())
        threading.Thread(target=self._reload_models, args=(cameras, done), name='loading').start()
        news, problems, waiting = await done
        # Whoever asks for a model that is not there is told; others need not be there yet.
        response.success = not problems and (bool(news) or not waiting)
        response.message = '; '.join([*news, *problems, *waiting]) or 'no model file has changed'
        # A line each: rclpy wants one severity for each line that logs.
        if response.success:
            self.get_logger().info(f'load_model: {response.message}')
        else:
            self.get_logger().error(f'load_model: {response.message}')
        return response

    def _reload_models(self, cameras: tuple[Camera, ...], done: Future) -> None:
        try:
            with self._loading:
                if self._is_configured:
                    done.set_result(self._load_models(cameras))
                else:
                    problem = 'the detector is not configured: configuring it loads the models'
                    done.set_result(LoadResult([], [problem], []))
        except Exception as error:
            done.set_exception(error)

    def _validate_criteria(self, parameters: list[RosParameter]) -> SetParametersResult:
        try:
            for camera in self._cameras:
                changes = camera.changes(parameters)
                if changes and camera.engine:
                    camera.criteria_for(camera.engine, changes)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=f'camera {camera.name}: {error}')
        return SetParametersResult(successful=True)

    def _apply_criteria(self, parameters: list[RosParameter]) -> None:
        # ModelManager that are being loaded take their criteria under the same lock.
        with self._inspecting:
            for camera in self._cameras:
                if camera.changes(parameters) and camera.engine:
                    camera.criteria = camera.criteria_for(camera.engine)

    # Images ---------------------------------------------------------------------------------

    def _discover(self) -> None:
        """Subscribe to cameras that are there and whose results somebody wants."""
        for camera in self._cameras:
            is_wanted = not self.parameters['lazy'] or camera.output.is_wanted()
            if camera.engine and camera.parameters['enabled'] and is_wanted:
                camera.input.subscribe(partial(self._receive, camera))
                camera.input.warn_throttled(camera.problem())
            else:
                camera.input.unsubscribe()

    def _receive(self, camera: Camera, message: Image | CompressedImage) -> None:
        self._frames.put(camera.name, Frame(message, time.perf_counter()))

    def _inspect_forever(self) -> None:
        by_name = {camera.name: camera for camera in self._cameras}
        while frames := self._frames.take_all():
            taken = time.perf_counter()
            with self._inspecting:
                batches: dict[Engine, list[DecodedFrame]] = {}
                for name, frame in frames.items():
                    camera = by_name[name]
                    decoded = self._decode(camera, frame, taken)
                    if decoded and camera.engine:
                        batches.setdefault(camera.engine, []).append(decoded)
                for engine, batch in batches.items():
                    self._inspect(engine, batch)

    def _decode(self, camera: Camera, frame: Frame, taken: float) -> DecodedFrame | None:
        started = time.perf_counter()
        try:
            image = message_to_array(frame.message)
            camera.input.note_shape(image, frame.message)
            camera.require_fitting_roi(image)
        except Exception as error:
            # One broken camera must not stop the others.
            self._report(camera, str(error))
            return None
        timings = {
            'queue': 1e3 * (taken - frame.received),
            'decode': 1e3 * (time.perf_counter() - started),
        }
        return DecodedFrame(camera, frame, image, timings)

    def _inspect(self, engine: Engine, batch: list[DecodedFrame]) -> None:
        """Inspect one frame of each camera that has this model, and publish the results."""
        try:
            inspections = engine.inspect(
                [one.image for one in batch], [one.camera.criteria for one in batch]
            )
            for (camera, frame, image, timings), inspection in zip(batch, inspections, strict=True):
                publishing = time.perf_counter()
                camera.output.publish(frame.message.header, image, inspection)
                done = time.perf_counter()
                timings |= inspection.timings
                timings['publish'] = 1e3 * (done - publishing)
                timings['total'] = 1e3 * (done - frame.received)
                camera.statistics.add(inspection, timings)
        except Exception as error:
            # The thread must outlive any one frame.
            for one in batch:
                self._report(one.camera, f'inspection failed: {error!r}')

    def _report(self, camera: Camera, problem: str) -> None:
        if not self.context.ok():
            # An interrupt took ROS away in the middle of a frame.
            return
        # Every problem once, not with every frame.
        if camera.statistics.add_failure(problem):
            self.get_logger().error(f'{camera.input.topic}: {problem}')

    def _publish_diagnostics(self) -> None:
        assert self._diagnostics is not None
        name = self.get_fully_qualified_name().lstrip('/')
        array = DiagnosticArray(
            status=[
                camera_status(
                    name, camera, self._worker is not None, self._frames.dropped(camera.name)
                )
                for camera in self._cameras
            ]
        )
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node('detector', _live, args)


def _live() -> None:
    node = DetectorNode()
    # Not rclpy's multi-threaded executor: where cores are few, its waiting thread takes the
    # interpreter from its working ones, and images came up to 6 s late.
    executor = SingleThreadedExecutor()
    try:
        if node.parameters['autostart']:
            for transition in (node.trigger_configure, node.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    # Without a lifecycle manager nobody could mend and retry it.
                    raise SystemExit(1)
        rclpy.spin(node, executor)
    finally:
        executor.shutdown()
        node.close()
        node.destroy_node()


if __name__ == '__main__':
    main()
