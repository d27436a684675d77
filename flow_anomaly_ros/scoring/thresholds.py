# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds, and how they turn scores into a mask, regions and a verdict."""

import dataclasses
from dataclasses import dataclass
import enum
import math
from typing import Any

import cv2
from flow_anomaly_ros.scoring.regions import find_regions, hysteresis_mask, Region
import numpy as np

RULES = ('calibrated', 'mean', 'half')


class Verdict(enum.StrEnum):
    """What is said of a part."""

    OK = 'ok'
    UNCERTAIN = 'uncertain'
    DEFECT = 'defect'


@dataclass(frozen=True)
class Thresholds:
    """Limits on scores, in the units of the detector's score map.

    Attributes:
        defect: Image score from which a part is defective.
        uncertain: Image score from which a part is not ok any more; <= defect.
        region: Peak that a region of the mask has to reach.
        pixel: Score above which a pixel belongs to a region; <= region.
        rule: How the mask is made: `calibrated` uses `pixel` and `region`; `mean` takes
            pixels above the mean of the score map, `half` pixels above 0.5 after min-max
            normalisation (US 2025/0265693 A1, paragraphs 77 and 80). Those two mark
            something on every image, good ones too: they show where an image is most unusual.
        min_area: Regions smaller than this many px of the camera image are left out.

    Raises:
        ValueError: Limits out of order, not finite, or an unknown rule.
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
        if self.rule not in RULES:
            msg = f'unknown mask rule {self.rule!r}: choose one of {", ".join(RULES)}'
            raise ValueError(msg)
        if self.min_area < 1:
            msg = f'min_area is {self.min_area}: it must be 1 px or more'
            raise ValueError(msg)

    def override(self, **changes: Any) -> 'Thresholds':
        """Replace some limits; the others follow where the order requires it.

        A changed `defect` takes `region` along in proportion: both say from where on something is
        a defect, one of the image and one of a place in it.

        Raises:
            ValueError: The changes contradict each other.
        """
        values = dataclasses.asdict(self) | changes
        if 'defect' in changes and 'region' not in changes and self.defect > 0:
            values['region'] = self.region * values['defect'] / self.defect
        for low, high in (('uncertain', 'defect'), ('pixel', 'region')):
            if low not in changes:
                values[low] = min(values[low], values[high])
            elif high not in changes:
                values[high] = max(values[low], values[high])
        return Thresholds(**values)


def classify(
    score_map: np.ndarray,
    image_score: float,
    thresholds: Thresholds,
    size: tuple[int, int] | None = None,
) -> tuple[np.ndarray, tuple[Region, ...], Verdict]:
    """Turn scores into a mask, regions and a verdict.

    A part is a defect when its image score says so and a region large enough shows where; a high
    score without such a region is uncertain, never ok.

    Args:
        score_map: HxW float32 as the detector made it: interpolation lowers peaks, and the
            thresholds are for those.
        image_score: The detector's score of the whole image.
        thresholds: The limits.
        size: (height, width) of the camera image; None for that of the score map.

    Returns:
        Mask (uint8, 0 or 255) of the camera image, its regions by falling peak, verdict.
    """
    height, width = size or score_map.shape
    score_map = _maxima(score_map, (height, width))
    share = score_map.size / (height * width)
    mask = _mask(score_map, thresholds, math.ceil(share * thresholds.min_area))
    if mask.shape != (height, width):
        # Linear, so that outlines are smooth; less than twofold that would lose single pixels.
        enlargement = min(height / score_map.shape[0], width / score_map.shape[1])
        interpolation = cv2.INTER_LINEAR if enlargement >= 2 else cv2.INTER_NEAREST
        mask = cv2.resize(mask, (width, height), interpolation=interpolation)
        _, mask = cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)
    regions = _find_regions(score_map, mask)
    if not math.isfinite(image_score):
        # A broken network or image must never pass a part.
        return mask, regions, Verdict.UNCERTAIN
    if image_score >= thresholds.defect and regions:
        return mask, regions, Verdict.DEFECT
    if image_score >= thresholds.uncertain:
        return mask, regions, Verdict.UNCERTAIN
    return mask, regions, Verdict.OK


def _maxima(score_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink a score map to no more than a (height, width), keeping all of its peaks."""
    for axis, (length, most) in enumerate(zip(score_map.shape, size, strict=True)):
        if length > most:
            starts = np.arange(most) * length // most
            score_map = np.maximum.reduceat(score_map, starts, axis=axis)
    return score_map


def _find_regions(score_map: np.ndarray, mask: np.ndarray) -> tuple[Region, ...]:
    """Describe the regions of a mask, looking only at the part of it that has any.

    What an enlarged mask has of pixels without a score is taken away.
    """
    x, y, width, height = cv2.boundingRect(mask)
    # The nearest score, so that peaks are kept.
    rows, columns = (
        np.arange(first, first + count) * small // large
        for first, count, small, large in zip(
            (y, x), (height, width), score_map.shape, mask.shape, strict=True
        )
    )
    scores = score_map[np.ix_(rows, columns)]
    part = mask[y : y + height, x : x + width]
    part[np.isnan(scores)] = 0
    return find_regions(scores, part, offset=(x, y))


def _mask(score_map: np.ndarray, thresholds: Thresholds, min_area: int) -> np.ndarray:
    if thresholds.rule == 'calibrated':
        low, high = thresholds.pixel, thresholds.region
    else:
        scores = score_map[np.isfinite(score_map)]
        if not scores.size or scores.min() == scores.max():
            # Nothing stands out, whatever rounding makes of the mean.
            return np.zeros(score_map.shape, np.uint8)
        if thresholds.rule == 'mean':
            low = high = float(scores.mean())
        else:
            low = high = float((scores.min() + scores.max()) / 2)
    return hysteresis_mask(score_map, low, high, min_area)
