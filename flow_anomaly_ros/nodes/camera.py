# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One camera of the detector node: its parameters, topics, model and statistics."""

from pathlib import Path

from flow_anomaly_ros.nodes.camera_input import CameraInput
from flow_anomaly_ros.nodes.camera_output import CameraOutput
from flow_anomaly_ros.nodes.parameters import check_name, Parameter, ParameterTable
from flow_anomaly_ros.nodes.statistics import CameraStatistics
from flow_anomaly_ros.runtime.engine import Criteria, Engine
from flow_anomaly_ros.scoring.roi import read_roi
from flow_anomaly_ros.scoring.thresholds import RULES
import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter as RosParameter

# 0 keeps what the model was calibrated with.
_CALIBRATED = '0 takes the calibrated one from the model file'
_ANY_SCORE = (0.0, 1e9)

# Each camera has all of these; their names begin with that of the camera, as front.model.
CAMERA_PARAMETERS = (
    Parameter(
        'model',
        '',
        'Model file written by flow-anomaly train (.safetensors) or flow-anomaly export (.onnx, '
        '.xml); a camera without one waits. A change counts from the next call of ~/load_model on.',
    ),
    Parameter(
        'part_class',
        '',
        'Class of the parts in front of the camera, of a model that knows several; empty: the '
        'model estimates it. May be changed while parts are inspected.',
    ),
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
    Parameter('enabled', True, 'Inspect the images of this camera.'),
    Parameter(
        'roi',
        '',
        'Region of interest: an image (PNG) of the aspect ratio of the camera image, black where '
        'nothing counts as a defect; empty inspects everything.',
    ),
    Parameter(
        'silence',
        10.0,
        'Seconds without an image after which the camera is reported; 0 never does, for cameras '
        'that are triggered at long intervals.',
        limits=(0.0, 1e6),
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
    Parameter('publish_mask', True, 'Publish <camera>/mask while somebody subscribes.'),
    Parameter('publish_score_map', True, 'Publish <camera>/score_map while somebody subscribes.'),
    Parameter('publish_overlay', True, 'Publish <camera>/overlay while somebody subscribes.'),
)

# Parameter names to fields of Thresholds.
_THRESHOLDS = {
    'defect_threshold': 'defect',
    'uncertain_threshold': 'uncertain',
    'region_threshold': 'region',
    'pixel_threshold': 'pixel',
    'min_area': 'min_area',
    'mask_rule': 'rule',
}
# Parameters that make up the rest of the criteria.
_OTHER_CRITERIA = ('roi', 'part_class')


class Camera:
    """One camera; its topics exist between `open` and `close`.

    Args:
        node: The detector node.
        name: Camera name.

    Attributes:
        name: Camera name.
        parameters: Its parameters, by their names without that of the camera.
        statistics: What happened to its frames since activation.
        input: Where its images come from.
        output: Where its results go.
        engine: What inspects it; None until a model is loaded.
        model_file: The file that `engine` was loaded from.
        model_problem: Why the model that is wanted could not be loaded, in one line; empty if it
            was, or is not there yet.
        criteria: What its images are judged by.
        is_open: Whether it has its topics.
    """

    input: CameraInput
    output: CameraOutput
    criteria: Criteria
    model_file: Path

    def __init__(self, node: LifecycleNode, name: str) -> None:
        self.name = name
        self.parameters = ParameterTable(node, CAMERA_PARAMETERS, f'{name}.')
        self.statistics = CameraStatistics()
        self.engine: Engine | None = None
        self.model_problem = ''
        self._node = node
        self.is_open = False

    @property
    def wanted_model(self) -> Path | None:
        """The model file that its parameter names; None if it names none."""
        name = self.parameters['model']
        return Path(name).expanduser() if name else None

    def open(self) -> None:
        """Create its topics."""
        self.input = CameraInput(
            self._node,
            self.name,
            self.parameters['topic'],
            self.parameters['transport'] == 'compressed',
        )
        self.output = CameraOutput(self._node, self.name, self.parameters)
        self.is_open = True

    def close(self) -> None:
        """Remove its topics."""
        if self.is_open:
            self.input.unsubscribe()
            self.output.destroy()
            self.is_open = False

    def criteria_for(self, engine: Engine, changes: dict[str, object] | None = None) -> Criteria:
        """What its parameters make of a model's thresholds.

        Args:
            engine: The engine with the model.
            changes: Parameters that are about to change.

        Raises:
            ValueError: Thresholds that contradict each other, a class that the model does not know,
                or a region of interest that cannot be read; one line.
        """
        names = (*_THRESHOLDS, *_OTHER_CRITERIA)
        values = {name: self.parameters[name] for name in names} | (changes or {})
        try:
            limits = {
                field: values[name] for name, field in _THRESHOLDS.items() if values[name] != 0
            }
            thresholds = tuple(one.override(**limits) for one in engine.manifest.thresholds)
            engine.manifest.class_index(values['part_class'])
            roi = read_roi(Path(values['roi']).expanduser()) if values['roi'] else None
        except (ValueError, RuntimeError) as error:
            # RuntimeError: a home directory that there is not.
            raise ValueError(str(error)) from error
        return Criteria(thresholds, roi, values['part_class'])

    def changes(self, parameters: list[RosParameter]) -> dict[str, object]:
        """Return those of changed parameters that `criteria_for` depends on."""
        changed = self.parameters.changed(parameters)
        return {name: changed[name] for name in (*_THRESHOLDS, *_OTHER_CRITERIA) if name in changed}

    def problem(self) -> str:
        """Say in one line why no images come, or what is odd about them; empty if nothing is."""
        problem = self.input.problem(self.parameters['silence'])
        if not problem and self.engine and self.input.array_shape:
            problem = self.engine.manifest.incompatibility(self.input.array_shape)
        return problem

    def require_fitting_roi(self, image: np.ndarray) -> None:
        """Check that the region of interest was drawn for images like this one.

        Raises:
            ValueError: It has another aspect ratio; one line.
        """
        roi = self.criteria.roi
        if roi is None:
            return
        (height, width), (rows, columns) = image.shape[:2], roi.shape
        # Half a pixel of rounding, where one is a reduced form of the other.
        if abs(height * columns - width * rows) > max(width, columns) / 2:
            msg = (
                f'the region of interest is {columns}x{rows} px, the image {width}x{height}: '
                'draw it on an image of this camera'
            )
            raise ValueError(msg)
