# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Synthetic images of a machined part: a face-turned steel flange on a conveyor, seen from above.

They are the data of the demo and the tests, so that nothing has to be downloaded. Lengths are in
units of the part's radius, angles in radians and intensities in [0, 1]. Only the finest texture,
the blur and the noise are defined in pixels.

A defect has its own random numbers. Images of one seed with and without a defect therefore differ
only at the defect.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math
from pathlib import Path

import cv2
from flow_anomaly_ros.data.folder import GOOD
from flow_anomaly_ros.data.images import write_image
import numpy as np

MIN_SIZE_PX = 32

_PART_RADIUS = 0.40  # in units of the image's side
_HUB = 0.50
_RIM = 0.955
_BOLT_CIRCLE = 0.75
_BOLT_HOLE = 0.078
_BOLT_CHAMFER = 0.108
_PIN_HOLE = 0.035
_PIN_CHAMFER = 0.050
_STEEL_TINT = np.array([1.0, 0.99, 0.965], np.float32)
_BELT_TINT = np.array([0.96, 1.0, 1.05], np.float32)
_RUST_TINT = np.array([0.78, 0.50, 0.31], np.float32)
_OIL_TINT = np.array([0.66, 0.60, 0.46], np.float32)


@dataclass(frozen=True)
class PartType:
    """What parts of one type share.

    Attributes:
        bolts: Number of bolt holes.
        bore: Radius of the bore.
    """

    bolts: int = 6
    bore: float = 0.27


FLANGE = PartType()
COVER = PartType(bolts=4, bore=0.16)


@dataclass(frozen=True)
class Conditions:
    """How much images of good parts differ, and how visible defects are.

    Attributes:
        types: Types of parts, which are equally frequent.
        shift: Largest shift of a part along each axis, in 1/256 of the image's side.
        rotation: Largest rotation in degrees.
        light: Largest deviation of the direction of the light in degrees.
        exposure: Largest relative deviation of the exposure.
        slope: Largest deviation of the slope of the illumination across the image.
        marks: Contrast of the turning marks.
        grain: Standard deviation of the sensor noise, in units of that of a good camera.
        severity: Visibility of defects in (0, 1], 1: as they are; below, blended with the good
            part.
    """

    types: tuple[PartType, ...] = (FLANGE,)
    shift: float = 1.5
    rotation: float = 1.5
    light: float = 3.0
    exposure: float = 0.05
    slope: float = 0.03
    marks: float = 0.045
    grain: float = 1.0
    severity: float = 1.0


EASY = Conditions()


@dataclass(frozen=True)
class _View:
    """Pose of the part in the image, and the direction of the light.

    Attributes:
        type: Type of the part.
        radius: Radius of the part in pixels.
        x: HxW, offset of each pixel from the part's centre, positive to the right.
        y: HxW, offset of each pixel from the part's centre, positive downwards.
        light: Angle of the direction that the light comes from.
        rotation: Angle of the first bolt hole.
    """

    type: PartType
    radius: float
    x: np.ndarray
    y: np.ndarray
    light: float
    rotation: float

    def polar(self, x: float = 0.0, y: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Distance and angle of each pixel as seen from the point (x, y); HxW each."""
        r, angle = cv2.cartToPolar(self.x - x, self.y - y)
        return r, angle

    def polar_from_nearest_bolt(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance and angle of each pixel as seen from its nearest bolt hole; HxW each."""
        _, angle = self.polar()
        step = 2 * math.pi / self.type.bolts
        nearest = self.rotation + step * np.round((angle - self.rotation) / step)
        r, angle = cv2.cartToPolar(
            self.x - _BOLT_CIRCLE * np.cos(nearest), self.y - _BOLT_CIRCLE * np.sin(nearest)
        )
        return r, angle

    def coverage(self, distance: np.ndarray) -> np.ndarray:
        """Fraction of each pixel inside a shape, in [0, 1].

        Args:
            distance: HxW, signed distance to the edge of the shape, negative inside.
        """
        return np.clip(0.5 - distance * self.radius, 0, 1)

    def cos_to_light(self, angle: np.ndarray) -> np.ndarray:
        """Cosine of the angle between a direction and the light."""
        return np.cos(angle - self.light)

    def bolt_centre(self, index: float) -> tuple[float, float]:
        """Centre of a bolt hole; a fractional index gives a point between two holes."""
        angle = self.rotation + 2 * math.pi * index / self.type.bolts
        return _BOLT_CIRCLE * math.cos(angle), _BOLT_CIRCLE * math.sin(angle)


@dataclass(frozen=True)
class _Layers:
    """Grey images from which a part and its defects are composed.

    Attributes:
        belt: HxW, the conveyor with the shadow of the part.
        blank: HxW, the part on the conveyor before its bolt holes were drilled.
        part: HxW, the finished part on the conveyor.
        metal: HxW, fraction of each pixel that the finished part covers.
    """

    belt: np.ndarray
    blank: np.ndarray
    part: np.ndarray
    metal: np.ndarray


# An image with a defect (3xHxW), and the fraction of each pixel that the defect covers (HxW).
_Painted = tuple[np.ndarray, np.ndarray]
# Adds a defect to an image (3xHxW).
_Painter = Callable[[_View, _Layers, np.ndarray, np.random.Generator], _Painted]


def generate_part(
    seed: int, size: int = 256, defect: str | None = None, conditions: Conditions = EASY
) -> tuple[np.ndarray, np.ndarray]:
    """Render an image of one part.

    Parts vary in turning marks, position, rotation, lighting and sensor noise.

    Args:
        seed: Determines the part and its defect; >= 0.
        size: Height and width of the image in pixels; >= 32.
        defect: One of `DEFECTS`; None for a good part.
        conditions: How much parts vary, and how visible defects are.

    Returns:
        The image, sizexsizex3 RGB `uint8`, and the mask of the defect, sizexsize `bool`.

    Raises:
        ValueError: The size is too small, or the defect is unknown.
    """
    if size < MIN_SIZE_PX:
        msg = f'size of a generated part must be at least {MIN_SIZE_PX} pixels, not {size}'
        raise ValueError(msg)
    if defect is not None and defect not in DEFECTS:
        msg = f"unknown defect '{defect}'; use one of {', '.join(DEFECTS)}"
        raise ValueError(msg)
    rng = np.random.default_rng((seed, 0))
    part_type = conditions.types[np.random.default_rng((seed, 2)).integers(len(conditions.types))]
    view = _random_view(rng, size, part_type, conditions)
    layers = _render_layers(view, rng, conditions.marks)
    image = _tint(layers.part, layers.metal)
    mask = np.zeros((size, size), dtype=bool)
    if defect is not None:
        defect_rng = np.random.default_rng((seed, 1))
        defective, coverage = _PAINTERS[defect](view, layers, image, defect_rng)
        # Exactly as painted, where it is not blended.
        whole = conditions.severity == 1
        image = defective if whole else _over(image, defective, np.array(conditions.severity, 'f4'))
        mask = coverage > 0.1 * coverage.max()
    return _photograph(image, rng, conditions), mask


def write_dataset(
    root: str | Path,
    train: int = 10,
    good: int = 8,
    per_defect: int = 3,
    size: int = 256,
    seed: int = 0,
    conditions: Conditions = EASY,
) -> Path:
    """Write a dataset of generated parts in the layout of MVTec AD.

    The same arguments give the same pixels. Each image depends only on the seed, its folder and its
    number, so larger counts do not change the images of smaller ones.

    Args:
        root: The folder to write; created if it is missing.
        train: Number of training images of good parts.
        good: Number of test images of good parts.
        per_defect: Number of test images of each of `DEFECTS`.
        size: Height and width of the images in pixels; >= 32.
        seed: Determines all images; >= 0.
        conditions: How much parts vary, and how visible defects are.

    Returns:
        The folder.

    Raises:
        ValueError: A count is negative, the size is too small, or the folder contains other files,
            which would be read as images of parts.
        OSError: A file cannot be written.
    """
    root = Path(root)
    if min(train, good, per_defect) < 0:
        msg = f'train, good and per_defect must be 0 or more, not {train}, {good}, {per_defect}'
        raise ValueError(msg)
    groups: list[tuple[str, str | None, int]] = [('train', None, train), ('test', None, good)]
    groups += [('test', defect, per_defect) for defect in DEFECTS]
    parts = {
        root / split / (defect or GOOD) / f'{number:03d}.png': (group, number, defect)
        for group, (split, defect, count) in enumerate(groups)
        for number in range(count)
    }
    masks = {
        path: root / 'ground_truth' / defect / f'{path.stem}_mask.png'
        for path, (_, _, defect) in parts.items()
        if defect
    }
    expected = {*parts, *masks.values()}
    for path in sorted(root.rglob('*')):
        if path.is_file() and path not in expected and not path.name.startswith('.'):
            msg = f'{path} is not part of this dataset; choose a new or empty folder'
            raise ValueError(msg)

    for path, (group, number, defect) in parts.items():
        part_seed = np.random.SeedSequence((seed, group, number)).generate_state(1)[0]
        image, mask = generate_part(int(part_seed), size, defect, conditions)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
        if defect:
            masks[path].parent.mkdir(parents=True, exist_ok=True)
            write_image(masks[path], mask.astype(np.uint8) * 255)
    return root


def _random_view(
    rng: np.random.Generator, size: int, part_type: PartType, conditions: Conditions
) -> _View:
    radius = _PART_RADIUS * size
    shift = conditions.shift
    centre = (size - 1) / 2 + rng.uniform(-shift, shift, 2) * size / 256
    pixels = np.arange(size, dtype=np.float32)
    x, y = np.meshgrid((pixels - centre[0]) / radius, (pixels - centre[1]) / radius)
    light = float(np.radians(-125 + rng.uniform(-conditions.light, conditions.light)))
    rotation = float(np.radians(rng.uniform(-conditions.rotation, conditions.rotation)))
    return _View(part_type, radius, x.astype(np.float32), y.astype(np.float32), light, rotation)


def _render_layers(view: _View, rng: np.random.Generator, marks: float) -> _Layers:
    r, angle = view.polar()
    lit = view.cos_to_light(angle)
    solid = view.coverage(r - 1)
    bore = view.coverage(r - view.type.bore)

    belt = _belt(view, rng)
    face = _turned_face(view, rng, r, angle, marks)
    face = _over(face, 0.44 + 0.30 * lit, view.coverage(np.abs(r - _HUB) - 0.012))
    face = _over(face, 0.17, view.coverage(np.abs(r - _HUB - 0.026) - 0.012))
    face = _over(face, 0.50 + 0.34 * lit, view.coverage(_RIM - r))
    face = _over(face, 0.48 - 0.36 * lit, view.coverage(r - view.type.bore - 0.03))
    blank = _over(_over(belt, face, solid), _hole_wall(r / view.type.bore, lit), bore)

    part, metal = blank, solid * (1 - bore)
    for (r, angle), hole, chamfer in (
        (view.polar_from_nearest_bolt(), _BOLT_HOLE, _BOLT_CHAMFER),
        (view.polar(*view.bolt_centre(0.5)), _PIN_HOLE, _PIN_CHAMFER),
    ):
        lit, drilled = view.cos_to_light(angle), view.coverage(r - hole)
        part = _over(part, 0.46 - 0.36 * lit, view.coverage(r - chamfer))
        part = _over(part, _hole_wall(r / hole, lit), drilled)
        metal = metal * (1 - drilled)
    return _Layers(belt, blank, part, metal)


def _turned_face(
    view: _View, rng: np.random.Generator, r: np.ndarray, angle: np.ndarray, contrast: float
) -> np.ndarray:
    # Turning marks reflect a lamp as two opposite fans, as brushed metal does. A second lamp is
    # reflected weakly.
    lamp = np.square(np.square(view.cos_to_light(angle)))
    second_lamp = np.clip(view.cos_to_light(angle - 1.25), 0, 1) ** 6
    rows, columns = int(2 * view.radius), 40
    fine = rng.standard_normal((rows, columns), np.float32)
    rings = rng.standard_normal((rows, 1), np.float32)
    wide_rings = cv2.GaussianBlur(rng.standard_normal((rows, 1), np.float32), (0, 0), 2)
    marks = cv2.remap(
        0.6 * fine + 0.8 * rings + 0.9 * wide_rings.reshape(rows, 1),
        angle * (columns / (2 * math.pi)),
        r * view.radius,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return (0.40 + 0.34 * lamp + 0.14 * second_lamp) * (1 + contrast * marks)


def _hole_wall(r: np.ndarray, lit: np.ndarray) -> np.ndarray:
    # Light reaches only the side of the wall that faces it, and only near the edge, r = 1.
    return 0.045 + 0.30 * np.clip(-lit, 0, 1) * np.clip(3 * r - 2, 0, 1)


def _belt(view: _View, rng: np.random.Generator) -> np.ndarray:
    size = view.x.shape[0]
    grain = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), 0.8)
    streaks = cv2.GaussianBlur(rng.standard_normal((size, 1), np.float32), (0, 0), 1.5)
    away = np.hypot(view.x + 0.06 * math.cos(view.light), view.y + 0.06 * math.sin(view.light))
    shadow = np.clip((1.14 - away) / 0.16, 0, 1)
    return (0.155 + 0.022 * grain + 0.012 * streaks) * (1 - 0.7 * shadow)


def _tint(luma: np.ndarray, metal: np.ndarray) -> np.ndarray:
    """Colour a grey image (HxW) as belt or steel; returns planes (3xHxW), faster to blend."""
    difference = _STEEL_TINT - _BELT_TINT
    return np.stack([luma * (b + metal * d) for b, d in zip(_BELT_TINT, difference, strict=True)])


def _over(below: np.ndarray, above: np.ndarray | float, coverage: np.ndarray) -> np.ndarray:
    """Composite one image over another; `coverage` is the alpha channel."""
    return below + coverage * (above - below)


def _photograph(image: np.ndarray, rng: np.random.Generator, conditions: Conditions) -> np.ndarray:
    """Add uneven lighting, blur and sensor noise to an image (3xHxW); returns HxWx3 `uint8`."""
    size = image.shape[-1]
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope, exposure = conditions.slope, conditions.exposure
    right, down = rng.uniform(0.05 - slope, 0.05 + slope), rng.uniform(0.07 - slope, 0.07 + slope)
    light = rng.uniform(1 - exposure, 1 + exposure) * (1 - right * ramp - down * ramp[:, None])
    blurred = cv2.GaussianBlur(cv2.merge(list(image * light)), (0, 0), rng.uniform(0.5, 0.65))
    np.clip(blurred, 0, 1, out=blurred)
    noise = rng.standard_normal(blurred.shape, np.float32)
    blurred += noise * np.float32(conditions.grain) * (0.005 + 0.010 * np.sqrt(blurred))
    return (np.clip(blurred, 0, 1) * 255 + 0.5).astype(np.uint8)


def _scratch(view: _View, layers: _Layers, image: np.ndarray, rng: np.random.Generator) -> _Painted:
    centre, heading = _free_spot(view, rng), rng.uniform(0, 2 * math.pi)
    length, bend = rng.uniform(0.25, 0.75), rng.uniform(-0.15, 0.15)
    t = np.linspace(-1, 1, 25)
    along, across = 0.5 * length * t, bend * length * (1 - t**2)
    x = centre[0] + along * math.cos(heading) - across * math.sin(heading)
    y = centre[1] + along * math.sin(heading) + across * math.cos(heading)
    # A sliding object presses harder in the middle and skips.
    widths = rng.uniform(0.014, 0.022) * np.sqrt(1 - t[:-1] ** 2) * rng.uniform(0.3, 1.2, 24)
    # The groove lies in the shadow of the ridge that the scratch has raised.
    shadow_x, shadow_y = 0.010 * math.cos(view.light), 0.010 * math.sin(view.light)
    ridge = layers.metal * _stroke(view, x, y, widths)
    groove = layers.metal * _stroke(view, x - shadow_x, y - shadow_y, widths)
    contrast = rng.uniform(0.75, 0.95)
    scratched = _over(_over(image, 0.14, 0.8 * contrast * groove), 0.92, contrast * ridge)
    return scratched, np.maximum(ridge, groove)


def _dent(view: _View, layers: _Layers, image: np.ndarray, rng: np.random.Generator) -> _Painted:
    shape = _blob(view, rng, _free_spot(view, rng), rng.uniform(0.04, 0.09), 0.12)
    depth = np.exp(-np.square(np.square(shape)))
    downwards, rightwards = np.gradient(depth)
    slope = math.cos(view.light) * rightwards + math.sin(view.light) * downwards
    shading = rng.uniform(0.03, 0.05) * view.radius * slope
    # The impact flattens the turning marks.
    worn = np.stack([cv2.GaussianBlur(plane, (0, 0), 0.015 * view.radius) for plane in image])
    dented = _over(image, 0.9 * worn, 0.8 * depth) * (1 + shading)
    return _over(image, dented, layers.metal), depth * layers.metal


def _stain(view: _View, layers: _Layers, image: np.ndarray, rng: np.random.Generator) -> _Painted:
    shape = _blob(view, rng, _free_spot(view, rng), rng.uniform(0.08, 0.19), 0.35)
    strength = rng.uniform(0.4, 0.85)
    if rng.random() < 0.5:
        grain = _smooth_noise(view, rng, 0.012)
        tint: np.ndarray = _RUST_TINT[:, None, None] * (1 + 0.10 * grain)
        extent = np.clip(2 - 1.6 * shape, 0, 1)
        thickness = extent * np.clip(0.7 + 0.5 * grain, 0, 1)
    else:
        # An oil stain is darkest along its edge.
        tint = _OIL_TINT[:, None, None]
        extent = np.clip(8 * (1 - shape), 0, 1)
        thickness = extent * np.clip(shape, 0.6, 1)
    stained = _over(image, image * tint, strength * thickness * layers.metal)
    return stained, extent * layers.metal


def _chip(view: _View, layers: _Layers, image: np.ndarray, rng: np.random.Generator) -> _Painted:
    position, size = rng.uniform(0, 2 * math.pi), rng.uniform(0.12, 0.19)
    depth = size * (1 - _blob(view, rng, (math.cos(position), math.sin(position)), size, 0.3))
    r, angle = view.polar()
    bite, solid = view.coverage(-depth), view.coverage(r - 1)
    broken_face = solid * view.coverage(depth - rng.uniform(0.02, 0.05))
    rough = 0.36 - 0.14 * view.cos_to_light(angle) + 0.06 * _smooth_noise(view, rng, 0.02)
    gap = _over(_tint(layers.belt, np.zeros_like(r)), rough, broken_face)
    return _over(image, gap, bite), bite * solid


def _missing_hole(
    view: _View, layers: _Layers, image: np.ndarray, rng: np.random.Generator
) -> _Painted:
    r, _ = view.polar(*view.bolt_centre(int(rng.integers(view.type.bolts))))
    hole = view.coverage(r - _BOLT_CHAMFER)
    blank = _tint(layers.blank, np.ones_like(hole))
    return np.where(hole > 0, blank, image), hole


def _burr(view: _View, layers: _Layers, image: np.ndarray, rng: np.random.Generator) -> _Painted:
    r, angle = view.polar(*view.bolt_centre(int(rng.integers(view.type.bolts))))
    middle, half = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.4)
    arc = np.clip(1.5 - 1.5 * np.arccos(np.cos(angle - middle)) / half, 0, 1)
    ragged = 0.5 + np.abs(_angular_noise(rng, angle, 40))
    height = 0.030 * arc * ragged
    burr = view.coverage(np.abs(r - _BOLT_HOLE + 0.3 * height) - height) * (arc > 0)
    glint = 0.70 + 0.15 * _smooth_noise(view, rng, 0.03)
    return _over(image, glint, burr), burr


def _blob(
    view: _View,
    rng: np.random.Generator,
    centre: tuple[float, float],
    size: float,
    roughness: float,
) -> np.ndarray:
    """Distance of each pixel from a centre, scaled to 1 on a rough oval outline; HxW."""
    r, angle = view.polar(*centre)
    oval = 1 + rng.uniform(0, 0.3) * np.cos(2 * (angle - rng.uniform(0, math.pi)))
    return np.maximum(r / (size * oval) + roughness * _smooth_noise(view, rng, 0.8 * size), 0)


def _angular_noise(rng: np.random.Generator, angle: np.ndarray, knots: int) -> np.ndarray:
    """Random periodic function of an angle, interpolated between knots on the circle."""
    values = rng.standard_normal(knots).clip(-2, 2)
    around = np.linspace(0, 2 * np.pi, knots, endpoint=False)
    return np.interp(angle, around, values, period=2 * np.pi).astype(np.float32)


def _smooth_noise(view: _View, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Smooth random field with details of size `scale`; HxW, mean about 0, deviation about 1."""
    size = view.x.shape[0]
    coarse_size = min(size, round(2 * size / (view.radius * scale)))
    coarse = cv2.GaussianBlur(
        rng.standard_normal((coarse_size, coarse_size), np.float32), (0, 0), 1
    )
    return cv2.resize(coarse / coarse.std(), (size, size), interpolation=cv2.INTER_CUBIC)


def _stroke(view: _View, x: np.ndarray, y: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Fraction of each pixel under a polyline of varying width, at least half a pixel; HxW."""
    oversampling, size = 4, view.x.shape[0]
    columns = (oversampling * ((x - view.x[0, 0]) * view.radius + 0.5)).round().astype(int).tolist()
    rows = (oversampling * ((y - view.y[0, 0]) * view.radius + 0.5)).round().astype(int).tolist()
    canvas = np.zeros((oversampling * size, oversampling * size), np.uint8)
    points = list(zip(columns, rows, strict=True))
    for begin, end, width in zip(points[:-1], points[1:], widths, strict=True):
        width_px = round(oversampling * view.radius * width)
        cv2.line(canvas, begin, end, 255, max(oversampling // 2, width_px))
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) / np.float32(255)


def _free_spot(view: _View, rng: np.random.Generator) -> tuple[float, float]:
    """Choose a point on the face away from holes and steps."""
    outwards = rng.uniform(0.60, 0.86) / _BOLT_CIRCLE
    x, y = view.bolt_centre(int(rng.integers(1, view.type.bolts)) + rng.uniform(0.35, 0.65))
    return outwards * x, outwards * y


_PAINTERS: dict[str, _Painter] = {
    'scratch': _scratch,
    'dent': _dent,
    'stain': _stain,
    'chip': _chip,
    'missing_hole': _missing_hole,
    'burr': _burr,
}
DEFECTS: tuple[str, ...] = tuple(_PAINTERS)
