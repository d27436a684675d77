# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds, and the classification of a score map into mask, regions and verdict."""

import dataclasses
from dataclasses import dataclass
import enum
import math
from typing import Any

import cv2
from flow_anomaly_ros.scoring.regions import find_regions, hysteresis_mask, Region
import numpy as np

MASK_RULES = ('calibrated', 'mean', 'half')
# By the rule `calibrated`, regions extend down to this share of their largest score. On generated
# parts the intersection over union with the marked defects is 0.13 without it, 0.38 with 0.5 and
# 0.44 with 0.6, which cuts long scratches and stains short.
REGION_SHARE = 0.5


class Verdict(enum.StrEnum):
    """Result of the inspection of a part."""

    OK = 'ok'
    UNCERTAIN = 'uncertain'
    DEFECT = 'defect'


@dataclass(frozen=True)
class Thresholds:
    """Thresholds on scores, in the units of the detector's score map.

    Attributes:
        defect: A part with an image score >= this is a defect.
        uncertain: A part with an image score >= this is uncertain; <= defect.
        region: The high threshold of the hysteresis: the maximum score of a region is >= this. It
            is the uncertain threshold where the image score is the maximum of the score map.
        pixel: The low threshold of the hysteresis: pixels of a region have scores > this;
            <= region.
        rule: Mask rule. `calibrated` applies hysteresis with `pixel` and `region`, and cuts regions
            down to `REGION_SHARE` of their largest score. `mean` marks
            pixels above the mean of the score map, `half` pixels above 0.5 after min-max
            normalisation (US 2025/0265693 A1, paragraphs 77 and 80). The latter two mark the most
            anomalous pixels of every image, good parts included.
        min_area: Regions smaller than this many px of the camera image are dropped.

    Raises:
        ValueError: The thresholds are not in order or not finite, or the rule is unknown.
    """

    defect: float
    uncertain: float
    region: float
    pixel: float
    rule: str = 'calibrated'
    min_area: int = 1

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.defect, self.uncertain, self.region, self.pixel))):
            msg = f'thresholds must be finite numbers, not {self}'
            raise ValueError(msg)
        for low, high in (('uncertain', 'defect'), ('pixel', 'region')):
            if getattr(self, low) > getattr(self, high):
                msg = (
                    f'threshold {low} ({getattr(self, low):g}) must not exceed threshold {high} '
                    f'({getattr(self, high):g})'
                )
                raise ValueError(msg)
        if self.rule not in MASK_RULES:
            msg = f'unknown mask rule {self.rule!r}: choose one of {", ".join(MASK_RULES)}'
            raise ValueError(msg)
        if self.min_area < 1:
            msg = f'min_area is {self.min_area}: it must be 1 px or more'
            raise ValueError(msg)

    def override(self, **changes: Any) -> 'Thresholds':
        """Replace thresholds and move the others where the order requires it.

        `region` changes in proportion to `uncertain`, unless it is replaced too: both say what is
        not ok, one of the image and one of a region of it. `rule='calibrated'` keeps the present
        rule: that of a model is `half` if one threshold does not fit all score maps.

        Args:
            changes: New values of attributes by name.

        Raises:
            ValueError: The changes contradict each other.
        """
        if changes.get('rule') == 'calibrated':
            changes['rule'] = self.rule
        values = dataclasses.asdict(self) | changes

        def keep_order(low: str, high: str) -> None:
            if low not in changes:
                values[low] = min(values[low], values[high])
            elif high not in changes:
                values[high] = max(values[low], values[high])

        keep_order('uncertain', 'defect')
        if 'region' not in changes and self.uncertain > 0:
            values['region'] = self.region * values['uncertain'] / self.uncertain
        keep_order('pixel', 'region')
        return Thresholds(**values)


def classify(
    score_map: np.ndarray,
    image_score: float,
    thresholds: Thresholds,
    size: tuple[int, int] | None = None,
    roi: np.ndarray | None = None,
) -> tuple[np.ndarray, tuple[Region, ...], Verdict]:
    """Classify a part by its scores.

    A part is a defect if its image score reaches `thresholds.defect` and the mask has a region. A
    high score without a region is uncertain, never ok. By the rule `calibrated`, the mask of a part
    that is ok is empty, and that of any other part has at least the region of its highest score.

    Args:
        score_map: HxW float32 at the detector's resolution. Do not enlarge it: interpolation lowers
            peaks, and the thresholds were calibrated on the original ones.
        image_score: The detector's score of the whole image.
        thresholds: The thresholds.
        size: (height, width) of the camera image in px; None: that of the score map.
        roi: HxW bool, True in the region of interest; None for everywhere. The rules `mean` and
            `half` consider the scores inside.

    Returns:
        The mask (uint8, 0 or 255) at the size of the camera image, its regions by descending
        maximum score, and the verdict.
    """
    height, width = size or score_map.shape
    # A part must never pass because a network or an image is broken.
    is_finite = math.isfinite(image_score)
    is_ok = is_finite and image_score < thresholds.uncertain
    is_calibrated = thresholds.rule == 'calibrated'
    if is_ok and is_calibrated:
        return np.zeros((height, width), np.uint8), (), Verdict.OK
    low, high = _mask_limits(score_map if roi is None else score_map[roi], thresholds)
    score_map = _shrink_keeping_maxima(score_map, (height, width))
    area_ratio = score_map.size / (height * width)
    min_area = math.ceil(area_ratio * thresholds.min_area)
    share = REGION_SHARE if is_calibrated else 0.0
    mask, regions = _make_mask(score_map, low, high, min_area, share, (height, width))
    is_defect = is_finite and image_score >= thresholds.defect and len(regions) > 0
    verdict = Verdict.OK if is_ok else Verdict.DEFECT if is_defect else Verdict.UNCERTAIN
    if not regions and is_calibrated:
        highest = score_map.max(initial=0, where=np.isfinite(score_map))
        if highest > 0:
            low = min(low, share * highest)
            mask, regions = _make_mask(score_map, low, highest, 1, share, (height, width))
    return mask, regions, verdict


def _make_mask(
    score_map: np.ndarray,
    low: float,
    high: float,
    min_area: int,
    share: float,
    size: tuple[int, int],
) -> tuple[np.ndarray, tuple[Region, ...]]:
    """Make the mask of a score map by hysteresis, at a size, and describe its regions."""
    mask = hysteresis_mask(score_map, low, high, min_area, share)
    if mask.shape != size:
        # Linear interpolation gives smooth outlines, but below a factor of two it loses single
        # pixels.
        enlargement = min(new / old for new, old in zip(size, score_map.shape, strict=True))
        interpolation = cv2.INTER_LINEAR if enlargement >= 2 else cv2.INTER_NEAREST
        mask = cv2.resize(mask, size[::-1], interpolation=interpolation)
        _, mask = cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)
    return mask, _find_regions(score_map, mask)


def _shrink_keeping_maxima(score_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink a score map to at most (height, width), each pixel the maximum of its block."""
    for axis, (length, limit) in enumerate(zip(score_map.shape, size, strict=True)):
        if length > limit:
            starts = np.arange(limit) * length // limit
            score_map = np.maximum.reduceat(score_map, starts, axis=axis)
    return score_map


def _find_regions(score_map: np.ndarray, mask: np.ndarray) -> tuple[Region, ...]:
    """Describe the regions of a mask, within its bounding box only, to save time.

    Pixels of the mask whose score is NaN are removed from it, as enlarging may have added them.
    """
    x, y, width, height = cv2.boundingRect(mask)
    # The nearest score of each pixel, which keeps the maxima.
    rows, columns = (
        np.arange(first, first + count) * map_length // mask_length
        for first, count, map_length, mask_length in zip(
            (y, x), (height, width), score_map.shape, mask.shape, strict=True
        )
    )
    scores = score_map[np.ix_(rows, columns)]
    cropped = mask[y : y + height, x : x + width]
    cropped[np.isnan(scores)] = 0
    return find_regions(scores, cropped, offset=(x, y))


def _mask_limits(scores: np.ndarray, thresholds: Thresholds) -> tuple[float, float]:
    """Low and high threshold of the hysteresis, by the mask rule."""
    if thresholds.rule == 'calibrated':
        return thresholds.pixel, thresholds.region
    finite = scores[np.isfinite(scores)]
    if not finite.size or finite.min() == finite.max():
        # No pixel stands out; rounding of the mean could mark all of them.
        return math.inf, math.inf
    limit = finite.mean() if thresholds.rule == 'mean' else (finite.min() + finite.max()) / 2
    return float(limit), float(limit)
