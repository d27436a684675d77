# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters that the detector node has for each camera, such as front.model."""

from dataclasses import dataclass

from flow_anomaly_ros.nodes.parameters.declaration import parameter
from flow_anomaly_ros.scoring.thresholds import MASK_RULES

TRANSPORTS = ('raw', 'compressed')
TOPIC_DESCRIPTION = (
    'Image topic. For compressed images give it without `/compressed` at its end. '
    'Empty: `<camera>/image`.'
)
TRANSPORT_DESCRIPTION = (
    '`raw` subscribes to `sensor_msgs/Image` on the topic, `compressed` to '
    '`sensor_msgs/CompressedImage` on `<topic>/compressed`.'
)
_CALIBRATED = (
    '0: the calibrated threshold of the model file, adjusted if it would contradict another '
    'threshold that is set.'
)
_ANY_SCORE = (0.0, 1e9)


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of one camera of the detector node; their names begin with the camera's."""

    model: str = parameter(
        '',
        'Model file written by `flow-anomaly train` (.safetensors) or `flow-anomaly export` '
        '(.onnx, .xml). A camera without a model is not inspected. After a change of this '
        'parameter or of the file call `~/load_model`; the old model is used until the new one '
        'is loaded.',
        example='model.safetensors',
    )
    part_class: str = parameter(
        '',
        'Class of the parts in front of the camera, for a model with several classes. Empty: the '
        'model estimates it. Can be changed while parts are inspected.',
    )
    topic: str = parameter('', TOPIC_DESCRIPTION, is_ros_name=True, read_only=True)
    transport: str = parameter('raw', TRANSPORT_DESCRIPTION, choices=TRANSPORTS, read_only=True)
    enabled: bool = parameter(True, 'Inspect the images of this camera.')
    roi: str = parameter(
        '',
        'Region of interest: an image file (PNG) with the aspect ratio of the camera image, black '
        'where nothing counts as a defect. Empty: the whole image is inspected.',
    )
    silence: float = parameter(
        10.0,
        'Seconds without an image after which the camera is reported. 0: never, for cameras that '
        'are triggered at long intervals.',
        limits=(0.0, 1e6),
    )
    defect_threshold: float = parameter(
        0.0,
        f'Image score from which an image is classified as defect. {_CALIBRATED}',
        limits=_ANY_SCORE,
    )
    uncertain_threshold: float = parameter(
        0.0,
        f'Image score from which an image is classified as uncertain. {_CALIBRATED}',
        limits=_ANY_SCORE,
    )
    region_threshold: float = parameter(
        0.0,
        'Peak score that a region must reach, unless `mask_rule` is `mean` or `half`. '
        f'{_CALIBRATED}',
        limits=_ANY_SCORE,
    )
    pixel_threshold: float = parameter(
        0.0,
        'Score above which a pixel belongs to a region, unless `mask_rule` is `mean` or `half`. '
        f'{_CALIBRATED}',
        limits=_ANY_SCORE,
    )
    min_area: int = parameter(
        1,
        'Smallest area of a region in px of the camera image. Smaller regions are ignored. An '
        'image whose score reaches the defect threshold but that has only such regions is '
        'uncertain.',
        limits=(1, 10**9),
    )
    mask_rule: str = parameter(
        'calibrated',
        'Which pixels are anomalous: `calibrated` applies the thresholds, `mean` takes pixels '
        'above the mean of the score map, `half` those above half of its range. The last two mark '
        'something on every image. Models trained with `normalize_maps` have no thresholds for '
        'pixels: `calibrated` is `half` for them.',
        choices=MASK_RULES,
    )
    publish_mask: bool = parameter(True, 'Publish `<camera>/mask` while it has a subscriber.')
    publish_score_map: bool = parameter(
        True, 'Publish `<camera>/score_map` while it has a subscriber.'
    )
    publish_overlay: bool = parameter(True, 'Publish `<camera>/overlay` while it has a subscriber.')
