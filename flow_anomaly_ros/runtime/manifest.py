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
# Images whose aspect ratio differs by more than this factor are of another camera or cut otherwise.
MAX_ASPECT_CHANGE = 1.05
# Levels that the channels of an image with colours differ by, on average.
COLOURFUL = 3.0


@dataclass(frozen=True)
class PartClass:
    """A class of parts that a model knows.

    Attributes:
        name: Its name; empty where the model knows a single class that has none.
        thresholds: Calibrated thresholds; they can be changed at run time.
        calibration: Where they come from, see `runtime.calibration.stored`.
    """

    name: str
    thresholds: Thresholds
    calibration: dict[str, object] = field(default_factory=dict)

    @property
    def calibration_scores(self) -> tuple[float, ...]:
        """Image scores of the good parts that the thresholds come from."""
        scores = self.calibration.get('image_scores')
        return tuple(map(float, scores)) if isinstance(scores, list) else ()


@dataclass(frozen=True)
class Manifest:
    """The part of a model file that is no tensor.

    Attributes:
        method: Name of the detection method.
        config: The method's configuration as plain values.
        input_size: (height, width) in px that images are resized to.
        image_size: (height, width) in px of the training images, the first where they differ.
        classes: The classes of parts that it knows, in the detector's order; 1 or more.
        training: Number of images, digests of their pixels, seed, seconds.
        libraries: Versions of the libraries that trained the model.
        tile: Side in px of the tiles that images are cut into; None: the detector sees whole ones.
        golden_sample: Image at `input_size` of a part of the training, of the first class, that the
            model finds good; see `runtime.golden_sample`. Empty if there is none.
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
        """Those of each class."""
        return tuple(one.thresholds for one in self.classes)

    @functools.cached_property
    def has_colours(self) -> bool:
        """Whether the good part that it carries has colours."""
        if not self.golden_sample:
            return False
        image = to_image(self.golden_sample, self.input_size)
        return image.ndim == 3 and bool(np.ptp(image, axis=2).mean() > COLOURFUL)

    def incompatibility(self, shape: tuple[int, ...]) -> str:
        """Say in one line why images of a shape, HxW or HxWx3, are of another kind; empty if not.

        A model of several classes, whose images may have shapes of their own, takes any.
        """
        if len(self.classes) > 1:
            return ''
        rows, columns = shape[:2]
        height, width = self.image_size
        if not 1 / MAX_ASPECT_CHANGE < rows * width / (columns * height) < MAX_ASPECT_CHANGE:
            return (
                f'{columns}x{rows} px is another shape than the {width}x{height} px that the model '
                'has learned: images are squashed, and scores say little'
            )
        if len(shape) == 2 and self.has_colours:
            return 'it is grey, and the model has learned images in colour: scores say little'
        return ''

    def class_index(self, name: str) -> int | None:
        """Which of the classes has a name; None for an empty one, where it is to be estimated.

        Raises:
            ValueError: There is no such class; one line.
        """
        names = [one.name for one in self.classes]
        if name in names:
            return names.index(name)
        if not name:
            return None
        known = f'it knows {", ".join(names)}' if any(names) else 'it knows one, which has no name'
        msg = f'the model knows no class {name!r}: {known}'
        raise ValueError(msg)

    @property
    def seen_size(self) -> tuple[int, int]:
        """(height, width) in px of what the detector sees at once: a tile, or a whole image."""
        return self.input_size if self.tile is None else (self.tile, self.tile)

    def to_json(self) -> str:
        """Serialise, with the format version."""
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
                msg = f'the manifest has {name} {values[name]}'
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
            msg = f'the manifest has classes {values["classes"]}'
            raise ValueError(msg) from error
        if not isinstance(values['golden_sample'], str):
            msg = 'the manifest has a good part that is no text'
            raise ValueError(msg)
        if values['max_value'] not in MAX_VALUES:
            msg = f'the manifest has max_value {values["max_value"]}'
            raise ValueError(msg)
        if not values['classes']:
            msg = 'the manifest has no classes'
            raise ValueError(msg)
        return cls(**values)


def input_size_of(image_size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Size to inspect at: the shorter side as given, the other in proportion.

    Smaller images are enlarged to the next multiples of 8 only.

    Args:
        image_size: (height, width) of the camera image in px.
        shorter: Wanted shorter side in px.

    Returns:
        (height, width), multiples of 8, at least 32.
    """
    smallest = min(image_size)
    shorter = min(shorter, smallest)
    # In whole numbers: a quotient of floats may lie above the multiple of 8 that it equals.
    height, width = (max(32, -(-side * shorter // (8 * smallest)) * 8) for side in image_size)
    return height, width
