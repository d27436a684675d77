# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The manifest of a model file: everything in it that is not a tensor."""

import dataclasses
from dataclasses import dataclass, field
import functools
import json

from flow_anomaly_ros.runtime.golden_sample import to_image
from flow_anomaly_ros.runtime.manifest_versions import FORMAT_VERSION, upgrade_manifest
from flow_anomaly_ros.runtime.preprocess import MAX_VALUES
from flow_anomaly_ros.runtime.tiling import require_tile
from flow_anomaly_ros.scoring.thresholds import Thresholds
import numpy as np

# No camera has more pixels on a side; a file that says so is damaged.
MAX_SIDE_PX = 2**16
# Images whose aspect ratio differs by more than this factor come from another camera or crop.
MAX_ASPECT_CHANGE = 1.05
# Mean difference between the channels of an image in colour, in levels of 255.
MIN_COLOUR_DIFFERENCE = 3.0


@dataclass(frozen=True)
class PartClass:
    """A class of parts of a model.

    Attributes:
        name: Its name; empty for the class of a single-class model without a name.
        thresholds: Calibrated thresholds; they can be overridden at run time.
        calibration: What they are based on, see `runtime.calibration.calibration_record`.
    """

    name: str
    thresholds: Thresholds
    calibration: dict[str, object] = field(default_factory=dict)

    @property
    def calibration_scores(self) -> tuple[float, ...]:
        """Image scores of the good parts that the thresholds are based on."""
        scores = self.calibration.get('image_scores')
        return tuple(map(float, scores)) if isinstance(scores, list) else ()


@dataclass(frozen=True)
class Manifest:
    """Everything in a model file that is not a tensor.

    Attributes:
        method: Name of the detection method.
        config: The method's configuration as plain values.
        input_size: (height, width) in px that images are resized to.
        image_size: (height, width) in px of the training images; of the first if they differ.
        classes: Its classes of parts, in the detector's order; 1 or more.
        training: Number of images, digests of their pixels, seed, seconds.
        libraries: Versions of the libraries that trained the model.
        tile: Side in px of the tiles that images are cut into; None: no tiles.
        golden_sample: Training image at `input_size`, of the first class, that the model classifies
            as ok; see `runtime.golden_sample`. Empty if there is none.
        max_value: Largest pixel value of a uint16 camera, see `preprocess.max_value_of`.
    """

    method: str
    config: dict[str, object]
    input_size: tuple[int, int]
    image_size: tuple[int, int]
    classes: tuple[PartClass, ...]
    training: dict[str, object] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    tile: int | None = None
    golden_sample: str = ''
    max_value: int = MAX_VALUES[-1]

    @property
    def thresholds(self) -> tuple[Thresholds, ...]:
        """Thresholds of each class."""
        return tuple(part_class.thresholds for part_class in self.classes)

    @functools.cached_property
    def has_colours(self) -> bool:
        """Whether the golden sample is in colour."""
        if not self.golden_sample:
            return False
        image = to_image(self.golden_sample, self.input_size)
        return image.ndim == 3 and bool(np.ptp(image, axis=2).mean() > MIN_COLOUR_DIFFERENCE)

    def incompatibility(self, shape: tuple[int, ...]) -> str:
        """Say in one line why images of a shape, HxW or HxWx3, do not fit; empty if they do.

        A model of several classes accepts any, since each class may have its own shape.
        """
        if len(self.classes) > 1:
            return ''
        rows, columns = shape[:2]
        height, width = self.image_size
        if not 1 / MAX_ASPECT_CHANGE < rows * width / (columns * height) < MAX_ASPECT_CHANGE:
            return (
                f'the aspect ratio of {columns}x{rows} px differs from training ({width}x{height} '
                'px): the image is distorted and scores are unreliable'
            )
        if len(shape) == 2 and self.has_colours:
            return 'the image is grey, but the model was trained in colour: scores are unreliable'
        return ''

    def class_index(self, name: str) -> int | None:
        """Return the index of a class by name; None for an empty name: the class is estimated.

        Raises:
            ValueError: There is no such class; one line.
        """
        names = [part_class.name for part_class in self.classes]
        if name in names:
            return names.index(name)
        if not name:
            return None
        known = (
            f'it has {", ".join(names)}' if any(names) else 'it has a single class without a name'
        )
        msg = f'the model has no class {name!r}: {known}'
        raise ValueError(msg)

    @property
    def network_input_size(self) -> tuple[int, int]:
        """(height, width) in px of the detector's input: a tile, or a whole image."""
        return self.input_size if self.tile is None else (self.tile, self.tile)

    def to_json(self) -> str:
        """Serialise to JSON, with the format version."""
        return json.dumps({'format_version': FORMAT_VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> 'Manifest':
        """Read what `to_json` wrote, in this format version or an earlier one.

        Raises:
            ValueError: A newer format version, or fields missing or of the wrong type.
        """
        values = upgrade_manifest(json.loads(text))
        names = {entry.name for entry in dataclasses.fields(cls)}
        missing = sorted(names - set(values))
        if missing:
            msg = f'the manifest lacks {", ".join(missing)}'
            raise ValueError(msg)
        values = {name: values[name] for name in names}
        for name in ('input_size', 'image_size'):
            values[name] = tuple(int(side) for side in values[name])
            if (
                len(values[name]) != 2
                or not 1 <= min(values[name]) <= max(values[name]) <= MAX_SIDE_PX
            ):
                msg = f'the manifest has an invalid {name}: {values[name]}'
                raise ValueError(msg)
        if values['tile'] is not None:
            values['tile'] = int(values['tile'])
            require_tile(values['tile'], values['input_size'])
        try:
            values['classes'] = tuple(
                PartClass(**{**entry, 'thresholds': Thresholds(**entry['thresholds'])})
                for entry in values['classes']
            )
        except (KeyError, TypeError) as error:
            msg = f'the manifest has invalid classes: {values["classes"]}'
            raise ValueError(msg) from error
        if not isinstance(values['golden_sample'], str):
            msg = 'the golden sample in the manifest is not text'
            raise ValueError(msg)
        if values['max_value'] not in MAX_VALUES:
            msg = f'the manifest has an invalid max_value: {values["max_value"]}'
            raise ValueError(msg)
        if not values['classes']:
            msg = 'the manifest has no classes'
            raise ValueError(msg)
        return cls(**values)


def input_size_of(image_size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Compute the input size: the shorter side as given, the other in proportion.

    Smaller images are only enlarged to the next multiples of 8.

    Args:
        image_size: (height, width) of the camera image in px.
        shorter: Wanted shorter side in px.

    Returns:
        (height, width), multiples of 8, at least 32.
    """
    smallest = min(image_size)
    shorter = min(shorter, smallest)
    # In integers: a quotient of floats may lie above the multiple of 8 that it equals.
    height, width = (max(32, -(-side * shorter // (8 * smallest)) * 8) for side in image_size)
    return height, width
