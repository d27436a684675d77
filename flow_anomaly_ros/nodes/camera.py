# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One camera of the detector node: its parameters, topics, model and statistics."""

from collections.abc import Callable
from pathlib import Path
import threading

from flow_anomaly_ros.data.image_messages import message_to_array
from flow_anomaly_ros.nodes.camera_input import CameraInput
from flow_anomaly_ros.nodes.camera_output import CameraOutput
from flow_anomaly_ros.nodes.parameters.camera import CameraParameters
from flow_anomaly_ros.nodes.parameters.listener import ParameterListener
from flow_anomaly_ros.nodes.statistics import CameraStatistics
from flow_anomaly_ros.runtime.engine import Criteria, Engine, Inspection
from flow_anomaly_ros.scoring.roi import read_roi
import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

# Parameter names to fields of Thresholds.
_THRESHOLDS = {
    'defect_threshold': 'defect',
    'uncertain_threshold': 'uncertain',
    'region_threshold': 'region',
    'pixel_threshold': 'pixel',
    'min_area': 'min_area',
    'mask_rule': 'rule',
}
_CRITERIA = frozenset((*_THRESHOLDS, 'roi', 'part_class'))


class Camera:
    """One camera; its topics exist between `open` and `close`.

    Args:
        node: The detector node.
        name: Camera name.
        inspection_lock: Lock that is held while frames are inspected; the criteria change only
            while the camera holds it.

    Attributes:
        name: Camera name.
        statistics: Counters of its frames since `restart`.
        input: Its image topic; exists while the camera is open.
    """

    input: CameraInput
    _output: CameraOutput
    _criteria: Criteria
    _model_file: Path

    def __init__(self, node: LifecycleNode, name: str, inspection_lock: threading.Lock) -> None:
        self.name = name
        self.statistics = CameraStatistics()
        self._node = node
        self._inspection_lock = inspection_lock
        self._engine: Engine | None = None
        self._model_problem = ''
        self._is_open = False
        self._parameter_listener = ParameterListener(node, CameraParameters, f'{name}.')
        self._parameter_listener.on_change(self._apply, self._validate)

    @property
    def parameters(self) -> CameraParameters:
        """The present values of its parameters."""
        return self._parameter_listener.values

    # Topics ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Create its topics."""
        is_compressed = self.parameters.transport == 'compressed'
        self.input = CameraInput(self._node, self.name, self.parameters.topic, is_compressed)
        self._output = CameraOutput(self._node, self.name)
        self._is_open = True

    def close(self) -> None:
        """Remove its topics."""
        if self._is_open:
            self.input.unsubscribe()
            self._output.destroy()
            self._is_open = False

    def restart(self) -> None:
        """Reset the statistics and what is known of its images."""
        self.statistics = CameraStatistics()
        self.input.restart()

    def update_subscription(
        self, lazy: bool, receive: Callable[[Image | CompressedImage], None]
    ) -> None:
        """Subscribe to the images or unsubscribe, as parameters, model and subscribers require.

        Args:
            lazy: Subscribe only while one of the results has a subscriber.
            receive: Called with each image.
        """
        is_wanted = not lazy or self._output.has_subscribers(self.parameters)
        if self._engine and self.parameters.enabled and is_wanted:
            self.input.subscribe(receive)
            self.input.warn_throttled(self.problem())
        else:
            self.input.unsubscribe()

    def unsubscribe(self) -> None:
        """Stop receiving images."""
        if self._is_open:
            self.input.unsubscribe()

    def problem(self) -> str:
        """Return in one line why no images arrive or what is odd about them; empty if nothing."""
        problem = self.input.problem(self.parameters.silence)
        if not problem and self._engine and self.input.array_shape:
            problem = self._engine.manifest.incompatibility(self.input.array_shape)
        return problem

    # Images ---------------------------------------------------------------------------------

    def decode(self, message: Image | CompressedImage) -> np.ndarray:
        """Convert an image message that can be inspected.

        Returns:
            HxW grey or HxWx3 RGB, uint8 or uint16.

        Raises:
            ValueError: The message cannot be converted, or the region of interest has another
                aspect ratio; one line.
        """
        image = message_to_array(message)
        self.input.record_format(image, message)
        self._require_fitting_roi(image)
        return image

    def publish(self, header: Header, image: np.ndarray, inspection: Inspection) -> None:
        """Publish an inspection, see `CameraOutput.publish`."""
        self._output.publish(header, image, inspection, self.parameters)

    def _require_fitting_roi(self, image: np.ndarray) -> None:
        roi = self._criteria.roi
        if roi is None:
            return
        (height, width), (rows, columns) = image.shape[:2], roi.shape
        # The region may be a reduced image: half a pixel of rounding is allowed.
        if abs(height * columns - width * rows) > max(width, columns) / 2:
            msg = (
                f'the region of interest is {columns}x{rows} px, the image {width}x{height}: '
                'draw it on an image of this camera'
            )
            raise ValueError(msg)

    # Model ----------------------------------------------------------------------------------

    @property
    def requested_model(self) -> Path | None:
        """The model file that the parameter names; None if it is empty."""
        name = self.parameters.model
        return Path(name).expanduser() if name else None

    @property
    def engine(self) -> Engine | None:
        """The engine that inspects the images; None without a model."""
        return self._engine

    @property
    def criteria(self) -> Criteria:
        """What the images are judged by; exists while there is a model."""
        return self._criteria

    @property
    def model_file(self) -> Path:
        """The file that the model was loaded from; exists while there is a model."""
        return self._model_file

    @property
    def model_problem(self) -> str:
        """Why the requested model could not be loaded, in one line; empty if it could."""
        return self._model_problem

    def report_model_problem(self, problem: str) -> None:
        """Set why the requested model could not be loaded; empty if nothing is wrong."""
        self._model_problem = problem

    def use_model(self, engine: Engine, path: Path) -> None:
        """Change over to another model; the caller holds the lock of inspection.

        Args:
            engine: The engine with the model.
            path: The file that it was loaded from.

        Raises:
            ValueError: The parameters contradict the model, which is not used; one line.
        """
        self._criteria = self._criteria_for(engine, self.parameters)
        self._engine, self._model_file = engine, path

    def remove_model(self) -> None:
        """Inspect nothing any more; the caller holds the lock of inspection."""
        self._engine = None

    @staticmethod
    def _criteria_for(engine: Engine, parameters: CameraParameters) -> Criteria:
        """Apply thresholds, region of interest and class from the parameters to a model's.

        Raises:
            ValueError: The thresholds contradict each other, the model does not have the class, or
                the region of interest cannot be read; one line.
        """
        try:
            limits = {
                field: value
                for name, field in _THRESHOLDS.items()
                if (value := getattr(parameters, name)) != 0
            }
            thresholds = tuple(each.override(**limits) for each in engine.manifest.thresholds)
            engine.manifest.class_index(parameters.part_class)
            roi = read_roi(Path(parameters.roi).expanduser()) if parameters.roi else None
        except RuntimeError as error:
            # Path.expanduser: there is no such home directory.
            raise ValueError(str(error)) from error
        return Criteria(thresholds, roi, parameters.part_class)

    def _validate(self, parameters: CameraParameters, names: frozenset[str]) -> None:
        if self._engine and names & _CRITERIA:
            try:
                self._criteria_for(self._engine, parameters)
            except ValueError as error:
                msg = f'camera {self.name}: {error}'
                raise ValueError(msg) from error

    def _apply(self, parameters: CameraParameters, names: frozenset[str]) -> None:
        if names & _CRITERIA:
            # A model that is being loaded gets its criteria under the same lock.
            with self._inspection_lock:
                if self._engine:
                    self._criteria = self._criteria_for(self._engine, parameters)
