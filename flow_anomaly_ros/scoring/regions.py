# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Connected regions of a score map: hysteresis thresholding, boxes, contours, scores."""

from dataclasses import dataclass
import math

import cv2
import numpy as np


# Compared by identity: a generated __eq__ would compare arrays, which have no truth value.
@dataclass(frozen=True, eq=False)
class Region:
    """An 8-connected region of a mask; x right, y down in px, (0, 0) is a pixel's centre.

    Attributes:
        x: Left column of the upright box.
        y: Top row of the upright box.
        width: Columns of the upright box, >= 1.
        height: Rows of the upright box, >= 1.
        rotated_box: Centre x, centre y, width, height, angle. The smallest rotated box around the
            pixels' centres, enlarged by one pixel in both directions: a single pixel is 1 x 1, and
            an upright rectangle has its upright box. The width is the longer side. The angle, in
            radians, turns the x axis onto it, clockwise as seen in the image, in (-pi/2, pi/2]; for
            equal sides in (-pi/4, pi/4].
        contour: Kx2 int32, vertices (x, y) of the outer contour; holes have none.
        area: Number of pixels, without holes.
        max_score: Largest score in the region.
        mean_score: Mean score of the region.
    """

    x: int
    y: int
    width: int
    height: int
    rotated_box: tuple[float, float, float, float, float]
    contour: np.ndarray
    area: int
    max_score: float
    mean_score: float


def find_regions(
    score_map: np.ndarray,
    mask: np.ndarray,
    min_area: int = 1,
    offset: tuple[int, int] = (0, 0),
) -> tuple[Region, ...]:
    """Describe each 8-connected region of a mask.

    Args:
        score_map: HxW floats, larger = more anomalous.
        mask: HxW uint8, 0 = good, 255 (or anything else) = anomalous.
        min_area: Regions with fewer pixels are dropped.
        offset: (x, y) of the arrays' top left corner in the image they were cropped from.

    Returns:
        Regions by descending max_score; at equal scores from top to bottom, then left to right.

    Raises:
        ValueError: Shapes differ or are not HxW, or a score under the mask is NaN.
    """
    if score_map.ndim != 2 or score_map.shape != mask.shape:
        msg = f'score map {score_map.shape} and mask {mask.shape}; give both as HxW of one size'
        raise ValueError(msg)
    inside = mask != 0
    if not inside.any():
        # OpenCV crashes on arrays without pixels.
        return ()
    if np.isnan(score_map).any() and np.isnan(score_map[inside]).any():
        msg = 'score map is NaN under the mask; make the mask with hysteresis_mask, which skips NaN'
        raise ValueError(msg)

    binary = inside.view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)

    regions = []
    for contour in _outer_contours(binary):
        label = labels[contour[0, 1], contour[0, 0]]
        x, y, width, height, area = stats[label].tolist()
        if area < min_area:
            continue
        box = slice(y, y + height), slice(x, x + width)
        scores = score_map[box][labels[box] == label]
        contour = contour + np.array(offset, contour.dtype)
        region = Region(
            x=x + offset[0],
            y=y + offset[1],
            width=width,
            height=height,
            rotated_box=_rotated_box(contour),
            contour=contour,
            area=area,
            max_score=float(scores.max()),
            mean_score=float(scores.mean(dtype=np.float64)),
        )
        regions.append(region)
    return tuple(sorted(regions, key=lambda region: (-region.max_score, region.y, region.x)))


def hysteresis_mask(
    score_map: np.ndarray, low: float, high: float, min_area: int = 1, share: float = 0.0
) -> np.ndarray:
    """Keep the pixels above `low` whose 8-connected region reaches `high`.

    The double threshold of Canny, "A computational approach to edge detection", PAMI 8, 1986: weak
    pixels count only where they touch strong ones. NaN pixels belong to no region. With a `share`,
    regions are then cut down to their own highest scores: a score map is smooth, so that a strong
    defect exceeds any fixed threshold far around it.

    Args:
        score_map: HxW floats, larger = more anomalous.
        low: A region's pixels have scores > low.
        high: A region's largest score is >= high; high >= low.
        min_area: Regions with fewer pixels are dropped.
        share: A region's pixels have at least this share of its largest score, in [0, 1].

    Returns:
        HxW uint8 mask, 0 or 255.

    Raises:
        ValueError: The score map is not HxW, `low` exceeds `high`, or one of them is NaN.
    """
    if score_map.ndim != 2:
        msg = f'score map is {score_map.shape}; give it as HxW'
        raise ValueError(msg)
    if not low <= high:
        msg = f'thresholds are low = {low} and high = {high}; give numbers with low <= high'
        raise ValueError(msg)
    above = (score_map > low).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    kept = np.zeros(count, dtype=bool)
    kept[labels[score_map >= high]] = True
    kept &= stats[:, cv2.CC_STAT_AREA] >= min_area
    # A pixel equal to both thresholds is background (label 0) but marks that label as strong.
    kept[0] = False
    if share > 0:
        return _cut_down(score_map, labels, stats, kept, min_area, share)
    return np.where(kept, np.uint8(255), np.uint8(0)).take(np.asarray(labels, dtype=np.int32))


def _cut_down(
    score_map: np.ndarray,
    labels: np.ndarray,
    stats: np.ndarray,
    kept: np.ndarray,
    min_area: int,
    share: float,
) -> np.ndarray:
    """Keep the pixels of regions with at least a share of the region's largest score."""
    mask = np.zeros(score_map.shape, np.uint8)
    for label in np.flatnonzero(kept):
        x, y, width, height, _ = stats[label]
        box = slice(y, y + height), slice(x, x + width)
        inside, scores = labels[box] == label, score_map[box]
        inside &= scores >= share * scores[inside].max()
        if np.count_nonzero(inside) >= min_area:
            mask[box][inside] = 255
    return mask


def _outer_contours(binary: np.ndarray) -> list[np.ndarray]:
    """Outer contour of each 8-connected region, Kx2 int32, in one pass over the image."""
    # RETR_EXTERNAL would miss a region inside the hole of another one.
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    parents = hierarchy[0, :, 3]
    return [c[:, 0] for c, parent in zip(contours, parents, strict=True) if parent < 0]


def _rotated_box(contour: np.ndarray) -> tuple[float, float, float, float, float]:
    (x, y), (width, height), degrees = cv2.minAreaRect(contour)
    # OpenCV 4 gives angles in (0, 90], OpenCV 5 in [-90, 0), with the sides swapped to match.
    # Quarter turns bring both to one form.
    turns = math.ceil((degrees - 45) / 90)
    degrees -= 90 * turns
    if turns % 2:
        width, height = height, width
    if width < height:
        width, height = height, width
        degrees += 90 if degrees <= 0 else -90
    return x, y, width + 1, height + 1, math.radians(degrees)
