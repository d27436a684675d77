# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""A generated machined part: a face-turned steel flange on a conveyor, seen from above.

Data for the demo and the tests, without a download. Lengths are in radii of the part, angles in
radians, brightness in [0, 1]; only the finest texture, the blur and the noise are in pixels. A
part and the same part with a defect share every random number but those of the defect, so that
the two pictures differ in no other place.
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

_PART_RADIUS = 0.40  # of the image's side
_BORE = 0.27
_HUB = 0.50
_RIM = 0.955
_BOLT_CIRCLE = 0.75
_BOLT_COUNT = 6
_BOLT_HOLE = 0.078
_BOLT_CHAMFER = 0.108
_PIN_HOLE = 0.035
_PIN_CHAMFER = 0.050
_STEEL_TINT = np.array([1.0, 0.99, 0.965], np.float32)
_BELT_TINT = np.array([0.96, 1.0, 1.05], np.float32)
_RUST_TINT = np.array([0.78, 0.50, 0.31], np.float32)
_OIL_TINT = np.array([0.66, 0.60, 0.46], np.float32)


@dataclass(frozen=True)
class _View:
    """Where the part lies in the image and where the light comes from.

    Attributes:
        radius: Radius of the part in pixels.
        x: HxW, how far each pixel is to the right of the part's centre.
        y: HxW, how far each pixel is below it.
        light: Direction the light comes from.
        turn: Direction of the first bolt hole.
    """

    radius: float
    x: np.ndarray
    y: np.ndarray
    light: float
    turn: float

    def polar(self, x: float = 0.0, y: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Distance and direction of each pixel from a place."""
        r, angle = cv2.cartToPolar(self.x - x, self.y - y)
        return r, angle

    def polar_from_bolts(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance and direction of each pixel from the bolt hole nearest to it."""
        _, angle = self.polar()
        step = 2 * math.pi / _BOLT_COUNT
        nearest = self.turn + step * np.round((angle - self.turn) / step)
        r, angle = cv2.cartToPolar(
            self.x - _BOLT_CIRCLE * np.cos(nearest), self.y - _BOLT_CIRCLE * np.sin(nearest)
        )
        return r, angle

    def inside(self, distance: np.ndarray) -> np.ndarray:
        """How much of each pixel a shape covers, from the signed distance to its edge."""
        return np.clip(0.5 - distance * self.radius, 0, 1)

    def towards_light(self, angle: np.ndarray) -> np.ndarray:
        """Cosine between a direction and the light."""
        return np.cos(angle - self.light)

    def bolt(self, number: float) -> tuple[float, float]:
        """Centre of a bolt hole; fractions lie between two of them."""
        angle = self.turn + 2 * math.pi * number / _BOLT_COUNT
        return _BOLT_CIRCLE * math.cos(angle), _BOLT_CIRCLE * math.sin(angle)


@dataclass(frozen=True)
class _Layers:
    """Pictures to put a defect together from.

    Attributes:
        belt: HxW, the conveyor with the shadow of the part.
        blank: HxW, the part before its bolt holes were drilled.
        part: HxW, the finished part.
        metal: HxW, how much of each pixel the finished part covers.
    """

    belt: np.ndarray
    blank: np.ndarray
    part: np.ndarray
    metal: np.ndarray


# A painter adds its defect to a picture (3xHxW) and tells how much of each pixel it took (HxW).
_Painted = tuple[np.ndarray, np.ndarray]
_Painter = Callable[[_View, _Layers, np.ndarray, np.random.Generator], _Painted]


def generate_part(
    seed: int, size: int = 256, defect: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Photograph one part.

    Parts differ by their turning marks, a shift, a turn, the light and the noise of the sensor.

    Args:
        seed: Decides everything about the part and its defect; not negative.
        size: Height and width of the image in pixels, at least 32.
        defect: One of `DEFECTS`; None for a good part.

    Returns:
        The image, size x size x 3 RGB `uint8`, and its mask, size x size bool, True where the
        part is defective.

    Raises:
        ValueError: The size is too small or the defect unknown.
    """
    if size < MIN_SIZE_PX:
        msg = f'size of a generated part is {size}; give at least {MIN_SIZE_PX} pixels'
        raise ValueError(msg)
    if defect is not None and defect not in DEFECTS:
        msg = f"unknown defect '{defect}'; use one of {', '.join(DEFECTS)}"
        raise ValueError(msg)
    rng = np.random.default_rng((seed, 0))
    view = _place(rng, size)
    layers = _machine(view, rng)
    picture = _coloured(layers.part, layers.metal)
    mask = np.zeros((size, size), dtype=bool)
    if defect is not None:
        defect_rng = np.random.default_rng((seed, 1))
        picture, coverage = _PAINTERS[defect](view, layers, picture, defect_rng)
        mask = coverage > 0.1 * coverage.max()
    return _photograph(picture, rng), mask


def write_dataset(
    root: str | Path,
    train: int = 10,
    good: int = 8,
    per_defect: int = 3,
    size: int = 256,
    seed: int = 0,
) -> Path:
    """Write generated parts as a data folder in MVTec layout.

    The same arguments give the same pixels. An image depends on the seed, its folder and its
    number alone, so that asking for more images leaves the others as they are.

    Args:
        root: The folder to write; made where it is missing.
        train: Good parts to learn from.
        good: Good parts to judge.
        per_defect: Parts to judge for each of `DEFECTS`.
        size: Height and width of the images in pixels, at least 32.
        seed: Decides all images; not negative.

    Returns:
        The folder.

    Raises:
        ValueError: A count is negative, the size is too small, or the folder holds other files,
            which would be taken for parts.
    """
    root = Path(root)
    if min(train, good, per_defect) < 0:
        msg = f'cannot generate {train}, {good} and {per_defect} images; give counts from 0 up'
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
    known = {*parts, *masks.values()}
    for path in sorted(root.rglob('*')):
        if path.is_file() and path not in known and not path.name.startswith('.'):
            msg = f'{root} holds {path}, which is not of this data set; give a new or empty folder'
            raise ValueError(msg)

    for path, (group, number, defect) in parts.items():
        part_seed = np.random.SeedSequence((seed, group, number)).generate_state(1)[0]
        image, mask = generate_part(int(part_seed), size, defect)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
        if defect:
            masks[path].parent.mkdir(parents=True, exist_ok=True)
            write_image(masks[path], mask.astype(np.uint8) * 255)
    return root


def _place(rng: np.random.Generator, size: int) -> _View:
    radius = _PART_RADIUS * size
    centre = (size - 1) / 2 + rng.uniform(-1.5, 1.5, 2) * size / 256
    pixels = np.arange(size, dtype=np.float32)
    x, y = np.meshgrid((pixels - centre[0]) / radius, (pixels - centre[1]) / radius)
    light = float(np.radians(-125 + rng.uniform(-3, 3)))
    turn = float(np.radians(rng.uniform(-1.5, 1.5)))
    return _View(radius, x.astype(np.float32), y.astype(np.float32), light, turn)


def _machine(view: _View, rng: np.random.Generator) -> _Layers:
    r, angle = view.polar()
    lit = view.towards_light(angle)
    solid = view.inside(r - 1)
    bore = view.inside(r - _BORE)

    belt = _belt(view, rng)
    face = _turned_face(view, rng, r, angle)
    face = _over(face, 0.44 + 0.30 * lit, view.inside(np.abs(r - _HUB) - 0.012))
    face = _over(face, 0.17, view.inside(np.abs(r - _HUB - 0.026) - 0.012))
    face = _over(face, 0.50 + 0.34 * lit, view.inside(_RIM - r))
    face = _over(face, 0.48 - 0.36 * lit, view.inside(r - _BORE - 0.03))
    blank = _over(_over(belt, face, solid), _hole_wall(r / _BORE, lit), bore)

    part, metal = blank, solid * (1 - bore)
    for (r, angle), hole, chamfer in (
        (view.polar_from_bolts(), _BOLT_HOLE, _BOLT_CHAMFER),
        (view.polar(*view.bolt(0.5)), _PIN_HOLE, _PIN_CHAMFER),
    ):
        lit, drilled = view.towards_light(angle), view.inside(r - hole)
        part = _over(part, 0.46 - 0.36 * lit, view.inside(r - chamfer))
        part = _over(part, _hole_wall(r / hole, lit), drilled)
        metal = metal * (1 - drilled)
    return _Layers(belt, blank, part, metal)


def _turned_face(
    view: _View, rng: np.random.Generator, r: np.ndarray, angle: np.ndarray
) -> np.ndarray:
    # Turning marks reflect a lamp as two opposite fans, as brushed metal does, and a second lamp
    # weakly.
    lamp = np.square(np.square(view.towards_light(angle)))
    second_lamp = np.clip(view.towards_light(angle - 1.25), 0, 1) ** 6
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
    return (0.40 + 0.34 * lamp + 0.14 * second_lamp) * (1 + 0.045 * marks)


def _hole_wall(r: np.ndarray, lit: np.ndarray) -> np.ndarray:
    # Only the side of the wall that faces the light is lit, and only close to the edge, r = 1.
    return 0.045 + 0.30 * np.clip(-lit, 0, 1) * np.clip(3 * r - 2, 0, 1)


def _belt(view: _View, rng: np.random.Generator) -> np.ndarray:
    size = view.x.shape[0]
    grain = cv2.GaussianBlur(rng.standard_normal((size, size), np.float32), (0, 0), 0.8)
    streaks = cv2.GaussianBlur(rng.standard_normal((size, 1), np.float32), (0, 0), 1.5)
    away = np.hypot(view.x + 0.06 * math.cos(view.light), view.y + 0.06 * math.sin(view.light))
    shadow = np.clip((1.14 - away) / 0.16, 0, 1)
    return (0.155 + 0.022 * grain + 0.012 * streaks) * (1 - 0.7 * shadow)


def _coloured(luma: np.ndarray, metal: np.ndarray) -> np.ndarray:
    """Tint a grey picture by what each pixel shows; 3xHxW, since planes are faster to paint on."""
    difference = _STEEL_TINT - _BELT_TINT
    return np.stack([luma * (b + metal * d) for b, d in zip(_BELT_TINT, difference, strict=True)])


def _over(below: np.ndarray, above: np.ndarray | float, coverage: np.ndarray) -> np.ndarray:
    return below + coverage * (above - below)


def _photograph(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = picture.shape[-1]
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    right, down = rng.uniform(0.02, 0.08), rng.uniform(0.04, 0.10)
    light = rng.uniform(0.95, 1.05) * (1 - right * ramp - down * ramp[:, None])
    blurred = cv2.GaussianBlur(cv2.merge(list(picture * light)), (0, 0), rng.uniform(0.5, 0.65))
    np.clip(blurred, 0, 1, out=blurred)
    noise = rng.standard_normal(blurred.shape, np.float32)
    blurred += noise * (0.005 + 0.010 * np.sqrt(blurred))
    return (np.clip(blurred, 0, 1) * 255 + 0.5).astype(np.uint8)


def _scratch(
    view: _View, layers: _Layers, picture: np.ndarray, rng: np.random.Generator
) -> _Painted:
    centre, heading = _free_spot(view, rng), rng.uniform(0, 2 * math.pi)
    length, bend = rng.uniform(0.25, 0.75), rng.uniform(-0.15, 0.15)
    t = np.linspace(-1, 1, 25)
    along, across = 0.5 * length * t, bend * length * (1 - t**2)
    x = centre[0] + along * math.cos(heading) - across * math.sin(heading)
    y = centre[1] + along * math.sin(heading) + across * math.cos(heading)
    # What slides over a part presses harder in the middle, and skips.
    widths = rng.uniform(0.014, 0.022) * np.sqrt(1 - t[:-1] ** 2) * rng.uniform(0.3, 1.2, 24)
    # The groove lies in the shadow of the ridge the scratch threw up.
    shadow_x, shadow_y = 0.010 * math.cos(view.light), 0.010 * math.sin(view.light)
    ridge = layers.metal * _stroke(view, x, y, widths)
    groove = layers.metal * _stroke(view, x - shadow_x, y - shadow_y, widths)
    contrast = rng.uniform(0.75, 0.95)
    scratched = _over(_over(picture, 0.14, 0.8 * contrast * groove), 0.92, contrast * ridge)
    return scratched, np.maximum(ridge, groove)


def _dent(view: _View, layers: _Layers, picture: np.ndarray, rng: np.random.Generator) -> _Painted:
    shape = _blob(view, rng, _free_spot(view, rng), rng.uniform(0.04, 0.09), 0.12)
    depth = np.exp(-np.square(np.square(shape)))
    downwards, rightwards = np.gradient(depth)
    slope = math.cos(view.light) * rightwards + math.sin(view.light) * downwards
    shading = rng.uniform(0.03, 0.05) * view.radius * slope
    # The blow flattens the turning marks.
    worn = np.stack([cv2.GaussianBlur(plane, (0, 0), 0.015 * view.radius) for plane in picture])
    dented = _over(picture, 0.9 * worn, 0.8 * depth) * (1 + shading)
    return _over(picture, dented, layers.metal), depth * layers.metal


def _stain(view: _View, layers: _Layers, picture: np.ndarray, rng: np.random.Generator) -> _Painted:
    shape = _blob(view, rng, _free_spot(view, rng), rng.uniform(0.08, 0.19), 0.35)
    strength = rng.uniform(0.4, 0.85)
    if rng.random() < 0.5:
        grain = _cloud(view, rng, 0.012)
        tint: np.ndarray = _RUST_TINT[:, None, None] * (1 + 0.10 * grain)
        extent = np.clip(2 - 1.6 * shape, 0, 1)
        thickness = extent * np.clip(0.7 + 0.5 * grain, 0, 1)
    else:
        # Oil lies darkest along its edge.
        tint = _OIL_TINT[:, None, None]
        extent = np.clip(8 * (1 - shape), 0, 1)
        thickness = extent * np.clip(shape, 0.6, 1)
    stained = _over(picture, picture * tint, strength * thickness * layers.metal)
    return stained, extent * layers.metal


def _chip(view: _View, layers: _Layers, picture: np.ndarray, rng: np.random.Generator) -> _Painted:
    at, size = rng.uniform(0, 2 * math.pi), rng.uniform(0.12, 0.19)
    depth = size * (1 - _blob(view, rng, (math.cos(at), math.sin(at)), size, 0.3))
    r, angle = view.polar()
    bite, solid = view.inside(-depth), view.inside(r - 1)
    broken_face = solid * view.inside(depth - rng.uniform(0.02, 0.05))
    rough = 0.36 - 0.14 * view.towards_light(angle) + 0.06 * _cloud(view, rng, 0.02)
    gap = _over(_coloured(layers.belt, np.zeros_like(r)), rough, broken_face)
    return _over(picture, gap, bite), bite * solid


def _missing_hole(
    view: _View, layers: _Layers, picture: np.ndarray, rng: np.random.Generator
) -> _Painted:
    r, _ = view.polar(*view.bolt(int(rng.integers(_BOLT_COUNT))))
    hole = view.inside(r - _BOLT_CHAMFER)
    blank = _coloured(layers.blank, np.ones_like(hole))
    return np.where(hole > 0, blank, picture), hole


def _burr(view: _View, layers: _Layers, picture: np.ndarray, rng: np.random.Generator) -> _Painted:
    r, angle = view.polar(*view.bolt(int(rng.integers(_BOLT_COUNT))))
    middle, half = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.4)
    arc = np.clip(1.5 - 1.5 * np.arccos(np.cos(angle - middle)) / half, 0, 1)
    ragged = 0.5 + np.abs(_ragged(rng, angle, 40))
    height = 0.030 * arc * ragged
    burr = view.inside(np.abs(r - _BOLT_HOLE + 0.3 * height) - height) * (arc > 0)
    glint = 0.70 + 0.15 * _cloud(view, rng, 0.03)
    return _over(picture, glint, burr), burr


def _blob(
    view: _View,
    rng: np.random.Generator,
    centre: tuple[float, float],
    size: float,
    roughness: float,
) -> np.ndarray:
    """Distance from a centre, 1 on a rough oval outline of a given size."""
    r, angle = view.polar(*centre)
    oval = 1 + rng.uniform(0, 0.3) * np.cos(2 * (angle - rng.uniform(0, math.pi)))
    return np.maximum(r / (size * oval) + roughness * _cloud(view, rng, 0.8 * size), 0)


def _ragged(rng: np.random.Generator, angle: np.ndarray, knots: int) -> np.ndarray:
    """Random function of a direction with a given number of knots around the circle."""
    values = rng.standard_normal(knots).clip(-2, 2)
    around = np.linspace(0, 2 * np.pi, knots, endpoint=False)
    return np.interp(angle, around, values, period=2 * np.pi).astype(np.float32)


def _cloud(view: _View, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Smooth random field with structures of a given size, of mean 0 and deviation 1."""
    size = view.x.shape[0]
    cells = min(size, round(2 * size / (view.radius * scale)))
    coarse = cv2.GaussianBlur(rng.standard_normal((cells, cells), np.float32), (0, 0), 1)
    return cv2.resize(coarse / coarse.std(), (size, size), interpolation=cv2.INTER_CUBIC)


def _stroke(view: _View, x: np.ndarray, y: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """How much of each pixel a line of changing width covers; it is half a pixel wide at least."""
    fine, size = 4, view.x.shape[0]
    columns = (fine * ((x - view.x[0, 0]) * view.radius + 0.5)).round().astype(int).tolist()
    rows = (fine * ((y - view.y[0, 0]) * view.radius + 0.5)).round().astype(int).tolist()
    canvas = np.zeros((fine * size, fine * size), np.uint8)
    points = list(zip(columns, rows, strict=True))
    for begin, end, width in zip(points[:-1], points[1:], widths, strict=True):
        cv2.line(canvas, begin, end, 255, max(fine // 2, round(fine * view.radius * width)))
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) / np.float32(255)


def _free_spot(view: _View, rng: np.random.Generator) -> tuple[float, float]:
    """Choose a place on the face away from holes and steps."""
    outwards = rng.uniform(0.60, 0.86) / _BOLT_CIRCLE
    x, y = view.bolt(int(rng.integers(1, _BOLT_COUNT)) + rng.uniform(0.35, 0.65))
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
