# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of inspections: heat maps, overlays and contact strips."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import cv2
from flow_anomaly_ros.runtime.preprocess import max_value_of, to_uint8
import numpy as np

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
MARK: Colour = (255, 40, 40)
# Background and text of the banner; every pair has a contrast of 4.5 or more (WCAG 2.1, 1.4.3).
BANNERS: dict[str, tuple[Colour, Colour]] = {
    'ok': ((0, 120, 50), WHITE),
    'uncertain': ((255, 176, 0), BLACK),
    'defect': ((200, 20, 20), WHITE),
}
TINT = 0.45
FONT = cv2.FONT_HERSHEY_SIMPLEX
# Sizes as shares of the image height: 14 px letters at 480 rows, 64 px at 2160.
LETTER_SHARE = 1 / 34
LINE_SHARE = 1 / 360
MIN_LETTER_PX = 9
STRIP_HEIGHT = 480
STRIP_GAP = 4


class Box(Protocol):
    """The part of a region that is drawn; a `Region` is one, and so is a box from a message."""

    @property
    def x(self) -> float:
        """Left column in px."""

    @property
    def y(self) -> float:
        """Top row in px."""

    @property
    def width(self) -> float:
        """Columns."""

    @property
    def height(self) -> float:
        """Rows."""

    @property
    def max_score(self) -> float:
        """Largest score in the region."""


def draw_overlay(
    image: np.ndarray, mask: np.ndarray, regions: Sequence[Box], verdict: str, score: float
) -> np.ndarray:
    """Draw an inspection on its image: tinted mask, boxes with scores, a banner on top.

    Letters and lines grow with the image, so that they can be read on 480 rows and on 2160.

    Args:
        image: HxW grey or HxWx3 RGB, uint8 or uint16; left as it is.
        mask: HxW, 0 = normal.
        regions: Upright boxes in px with their highest scores, highest first.
        verdict: `ok`, `uncertain` or `defect`.
        score: Image score.

    Returns:
        HxWx3 RGB uint8.

    Raises:
        ValueError: Unknown verdict, or a mask of another size.
    """
    if verdict not in BANNERS:
        msg = f'unknown verdict {verdict!r}: use one of {", ".join(BANNERS)}'
        raise ValueError(msg)
    if mask.shape != image.shape[:2]:
        msg = f'mask {mask.shape} and image {image.shape[:2]} must have the same size'
        raise ValueError(msg)
    picture = _to_rgb(image)
    _tint(picture, mask)
    height, width = mask.shape
    letter = max(MIN_LETTER_PX, round(height * LETTER_SHARE))
    background, foreground = BANNERS[verdict]
    count = f'{len(regions)} region{"" if len(regions) == 1 else "s"}'
    for region in reversed(regions):
        _draw_box(picture, region, letter)
    banner = picture[: 2 * letter]
    cv2.rectangle(banner, (0, 0), (width - 1, len(banner) - 1), background, cv2.FILLED)
    _write(banner, f'{verdict.upper()}  {score:.3g}  {count}', 0, 0, letter, foreground)
    return picture


def heat_map(score_map: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colour a score map: dark blue at `low` and below, dark red at `high` and above.

    The caller fixes the scale, not the image, so that good parts look uniform.

    Args:
        score_map: HxW floats; NaN is shown as `high`.
        low: Score of the first colour, as a rule 0.
        high: Score of the last colour.

    Returns:
        HxWx3 RGB uint8.
    """
    # Thresholds may be set to 0 at run time.
    span = np.float32(max(high - low, float(np.finfo(np.float32).tiny)))
    shares = np.clip((score_map - np.float32(low)) / span, 0, 1)
    levels = (np.nan_to_num(shares, copy=False, nan=1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)


def contact_strip(pictures: Mapping[str, np.ndarray], height: int = STRIP_HEIGHT) -> np.ndarray:
    """Put pictures of one part side by side, each under its caption.

    Args:
        pictures: Captions and pictures, HxW grey or HxWx3 RGB, uint8 or uint16; all are brought to
            the shape of the first.
        height: Rows of each picture in the strip; fewer where that makes it wider than twice this.

    Returns:
        RGB uint8, a caption's height taller than the pictures in it.
    """
    letter = max(MIN_LETTER_PX, round(height * LETTER_SHARE))
    rows, columns = next(iter(pictures.values())).shape[:2]
    scale = min(height / rows, 2 * height / columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    panels = []
    for caption, picture in pictures.items():
        method = cv2.INTER_AREA if size[1] < len(picture) else cv2.INTER_NEAREST
        panel = _to_rgb(cv2.resize(picture, size, interpolation=method))
        title = np.full((2 * letter, size[0], 3), 255, np.uint8)
        _write(title, caption, 0, 0, letter, BLACK)
        panel = np.vstack([title, panel])
        panels += [panel, np.full((len(panel), STRIP_GAP, 3), 255, np.uint8)]
    return np.hstack(panels[:-1])


def _to_rgb(image: np.ndarray) -> np.ndarray:
    """Copy an image as HxWx3 uint8."""
    image = to_uint8(image, max_value_of(image))
    return np.stack([image] * 3, axis=-1) if image.ndim == 2 else np.array(image, order='C')


def _tint(picture: np.ndarray, mask: np.ndarray) -> None:
    """Tint the pixels of a mask; only its bounding box is processed."""
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return
    part = slice(y, y + height), slice(x, x + width)
    levels = np.arange(256)[:, None] * (1 - TINT) + np.array(MARK) * TINT
    tinted = cv2.LUT(picture[part], levels[None].astype(np.uint8))
    picture[part] = cv2.copyTo(tinted, mask[part], picture[part].copy())


def _draw_box(picture: np.ndarray, region: Box, letter: int) -> None:
    line = max(1, round(len(picture) * LINE_SHARE))
    left, top = round(region.x), round(region.y)
    right, bottom = round(region.x + region.width) - 1, round(region.y + region.height) - 1
    cv2.rectangle(picture, (left, top), (right, bottom), MARK, line)
    label_height = 2 * letter
    # Above the box where there is room below the banner, under it otherwise.
    row = top - line - label_height if top - line >= 2 * label_height else bottom + line + 1
    row = max(0, min(row, len(picture) - label_height))
    _write(picture, f'{region.max_score:.3g}', left, row, letter, WHITE, MARK)


def _write(
    picture: np.ndarray,
    text: str,
    left: int,
    top: int,
    letter: int,
    colour: Colour,
    background: Colour | None = None,
) -> None:
    """Write one line into a box two letters high; a line wider than the picture is scaled down."""
    margin = letter // 2
    room = max(1, picture.shape[1] - 2 * margin)
    scale = letter / cv2.getTextSize('O', FONT, 1, 1)[0][1]
    line = max(1, round(letter / 8))
    width = cv2.getTextSize(text, FONT, scale, line)[0][0]
    if width > room:
        scale *= room / width
        width = room
    left = max(0, min(left, picture.shape[1] - width - 2 * margin))
    if background is not None:
        corner = (left + width + 2 * margin, top + 2 * letter - 1)
        cv2.rectangle(picture, (left, top), corner, background, cv2.FILLED)
    origin = (left + margin, top + letter + margin)
    cv2.putText(picture, text, origin, FONT, scale, colour, line, cv2.LINE_AA)
