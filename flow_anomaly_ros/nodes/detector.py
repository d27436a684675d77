# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The detector node: receives camera images, publishes masks, regions and verdicts.

A managed (lifecycle) node: configure loads the models, activate starts inspection, deactivate stops
it and keeps the models, cleanup frees them.
"""

from collections.abc import Callable
import functools
from functools import partial
import threading
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from flow_anomaly_ros.data.image_messages import conversion_backend
from flow_anomaly_ros.errors import error_summary
from flow_anomaly_ros.nodes.camera import Camera
from flow_anomaly_ros.nodes.camera_names import require_camera_names
from flow_anomaly_ros.nodes.diagnostics import camera_status, NO_MODEL
from flow_anomaly_ros.nodes.latest_frame_buffer import LatestFrameBuffer
from flow_anomaly_ros.nodes.model_manager import LoadResult, ModelManager, RuntimeOptions
from flow_anomaly_ros.nodes.parameters.detector import DetectorParameters
from flow_anomaly_ros.nodes.parameters.listener import ParameterListener, warn_unknown_parameters
from flow_anomaly_ros.nodes.run_node import run_node
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.engine import Engine
from lifecycle_msgs.srv import ChangeState
import numpy as np
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.task import Future
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
import torch

# Seconds between checks for publishers of images and subscribers to results.
DISCOVERY_PERIOD_S = 0.2
DIAGNOSTICS_PERIOD_S = 1.0


class Frame(NamedTuple):
    """A camera message and its time of arrival on the clock of `time.perf_counter`, in seconds."""

    message: Image | CompressedImage
    received: float


class DecodedFrame(NamedTuple):
    """A camera frame as an array, and its timings so far in ms by stage."""

    camera: Camera
    frame: Frame
    image: np.ndarray
    timings: dict[str, float]


def log_exceptions(
    transition: Callable[['DetectorNode', LifecycleState], TransitionCallbackReturn],
) -> Callable[['DetectorNode', LifecycleState], TransitionCallbackReturn]:
    """Make a transition log its exceptions, which rclpy would swallow."""

    @functools.wraps(transition)
    def call(node: 'DetectorNode', state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            name = transition.__name__.removeprefix('on_')
            node.get_logger().error(f'cannot {name}: {error_summary(error)}')
            raise

    return call


class DetectorNode(LifecycleNode):
    """Inspects the images of its cameras.

    Its parameters are `DetectorParameters`, and `CameraParameters` for each camera. The service
    ~/load_model (std_srvs/Trigger) loads the models whose parameters or files have changed while
    the old models inspect; ~/<camera>/load_model does so for one camera.

    Args:
        options: Arguments of rclpy's node, such as `namespace` and `parameter_overrides`.

    Raises:
        ValueError: Camera names or parameters are invalid; one line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('detector', **options)
        self._is_configured = False
        # The default that `threads: 0` restores.
        self._all_threads = torch.get_num_threads()
        # Held while frames are inspected, so that models change only between two frames.
        self._inspection_lock = threading.Lock()
        self._frames = LatestFrameBuffer()
        self._worker: threading.Thread | None = None
        # The timers must also run while simulated time is paused.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer: Timer | None = None
        self._discovery_timer: Timer | None = None
        self._diagnostics: Publisher | None = None
        self._parameter_listener = ParameterListener(self, DetectorParameters)
        names = self.parameters.cameras
        require_camera_names(names)
        self._cameras = tuple(Camera(self, name, self._inspection_lock) for name in names)
        # Launch files pass config/detector.yaml, which has a camera named `camera`, to every node.
        warn_unknown_parameters(self, () if 'camera' in names else ('camera.',))
        self._models = ModelManager(self._cameras, self._inspection_lock)
        # Held while models are loaded or freed, so that cleanup waits for a running ~/load_model.
        # A thread that holds it may take `_inspection_lock`, never the other way round.
        self._loading = threading.Lock()
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state
        # Loading takes seconds, during which images must be received: a thread loads the models
        # while the service callback awaits it in its own callback group.
        group = MutuallyExclusiveCallbackGroup()
        for name, cameras in (
            ('~/load_model', self._cameras),
            *((f'~/{camera.name}/load_model', (camera,)) for camera in self._cameras),
        ):
            on_call = partial(self._on_load_model, cameras)
            self.create_service(Trigger, name, on_call, callback_group=group)

    @property
    def parameters(self) -> DetectorParameters:
        """The present values of the parameters."""
        return self._parameter_listener.values

    # Lifecycle ------------------------------------------------------------------------------

    def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """Refuse transitions that the state does not allow: rclpy would end the process."""
        available = {
            number: label for number, label, *_ in self._state_machine.available_transitions
        }
        # Unknown labels are refused by rclpy itself.
        if not request.transition.label and request.transition.id not in available:
            self.get_logger().warning(
                f'transition {request.transition.id} is not available in state '
                f'{self._state_machine.current_state[1]} '
                f'(available: {", ".join(available.values()) or "none"})'
            )
            return response
        return self._change_state(request, response)

    @log_exceptions
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the models; on failure logs the reason in one line."""
        started = time.perf_counter()
        limit_threads(self.parameters.threads or self._all_threads)
        with self._loading:
            news, problems, waiting = self._load_models(self._cameras)
            is_possible = not problems or self.parameters.await_models
            if not is_possible:
                self._models.release()
        if problems:
            # rclpy would fail the transition without logging a reason.
            result = (
                'some cameras have no model and are not inspected'
                if is_possible
                else 'cannot configure'
            )
            self.get_logger().error(f'{result}: {"; ".join(problems)}')
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
            f'configured in {time.perf_counter() - started:.1f} s; images are converted by '
            f'{conversion_backend()}; models: {", ".join([*news, *waiting]) or "none"}'
        )
        return super().on_configure(state)

    @log_exceptions
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start inspecting."""
        result = super().on_activate(state)
        self._frames = LatestFrameBuffer()
        for camera in self._cameras:
            camera.restart()
            if camera.engine is None:
                reason = camera.model_problem or NO_MODEL.format(camera=camera.name)
                self.get_logger().warning(f'camera {camera.name}: {reason}')
        worker = threading.Thread(target=self._inspect_forever, name='inspection')
        worker.start()
        self._worker = worker
        self._discovery_timer = self.create_timer(
            DISCOVERY_PERIOD_S, self._discover, clock=self._steady
        )
        self.get_logger().info(
            'active, waiting for images on '
            + ', '.join(camera.input.topic for camera in self._cameras)
        )
        return result

    @log_exceptions
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop inspecting and keep the models."""
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
            camera.unsubscribe()
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

    # Models ----------------------------------------------------------------------------------

    def _load_models(self, cameras: tuple[Camera, ...]) -> LoadResult:
        parameters = self.parameters
        options = RuntimeOptions(parameters.device, parameters.precision, parameters.compile)
        return self._models.load(cameras, options, parameters.await_models)

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
        # A missing file is a failure only if nothing else was loaded: the call may have been made
        # for another camera.
        response.success = not problems and (bool(news) or not waiting)
        response.message = '; '.join([*news, *problems, *waiting]) or 'no model file has changed'
        # Two calls, because rclpy allows one severity per logging line of code.
        if response.success:
            self.get_logger().info(f'~/load_model: {response.message}')
        else:
            self.get_logger().error(f'~/load_model failed: {response.message}')
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

    # Images ---------------------------------------------------------------------------------

    def _discover(self) -> None:
        """Subscribe to the cameras that publish and whose results have subscribers."""
        for camera in self._cameras:
            camera.update_subscription(self.parameters.lazy, partial(self._receive, camera))

    def _receive(self, camera: Camera, message: Image | CompressedImage) -> None:
        self._frames.put(camera.name, Frame(message, time.perf_counter()))

    def _inspect_forever(self) -> None:
        by_name = {camera.name: camera for camera in self._cameras}
        while frames := self._frames.take_all():
            taken = time.perf_counter()
            with self._inspection_lock:
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
            image = camera.decode(frame.message)
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
        """Inspect one frame of each camera with this model and publish the results."""
        try:
            inspections = engine.inspect(
                [decoded.image for decoded in batch],
                [decoded.camera.criteria for decoded in batch],
            )
            for (camera, frame, image, timings), inspection in zip(batch, inspections, strict=True):
                publishing = time.perf_counter()
                camera.publish(frame.message.header, image, inspection)
                done = time.perf_counter()
                timings |= inspection.timings
                timings['publish'] = 1e3 * (done - publishing)
                timings['total'] = 1e3 * (done - frame.received)
                camera.statistics.add(inspection, timings)
        except Exception as error:
            # The thread must survive any single frame.
            for decoded in batch:
                self._report(decoded.camera, f'inspection failed: {error!r}')

    def _report(self, camera: Camera, problem: str) -> None:
        if not self.context.ok():
            # An interrupt shut ROS down while a frame was being inspected.
            return
        # Log a problem once, not for every frame.
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
    """Run the detector node until it is interrupted."""
    run_node('detector', _spin, args)


def _spin() -> None:
    node = DetectorNode()
    # Not rclpy's multi-threaded executor: on machines with few cores its waiting thread competes
    # with its working threads for the interpreter lock, and images arrived up to 6 s late.
    executor = SingleThreadedExecutor()
    try:
        if node.parameters.autostart:
            for transition in (node.trigger_configure, node.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    # Without a lifecycle manager nobody would retry the transition.
                    raise SystemExit(1)
        rclpy.spin(node, executor)
    finally:
        executor.shutdown()
        node.close()
        node.destroy_node()


if __name__ == '__main__':
    main()
