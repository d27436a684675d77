# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds from the scores of good parts that the detector has not been trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

from flow_anomaly_ros.scoring.thresholds import Thresholds
import numpy as np
from scipy.special import stdtrit

# The low threshold of the mask: what this share of the pixels of good parts exceeds, and no less
# than this share of a region's smallest peak. Only pixels connected to a peak end up in the mask.
PIXEL_RATE = 0.005
PIXEL_SHARE = 0.5
# The uncertain band begins at the score that this many times the requested share exceeds.
UNCERTAIN_FACTOR = 2.0
# Repeated images of one part count as spread by this share, on the scale of cube roots.
MIN_SPREAD = 0.003
# One part says nothing about spread, and is scored by a detector that has seen it.
LONE_FACTOR = 2.0
# `outliers` names a part in this share of sets of good ones. Tails heavier than that of a normal
# distribution make it more: 1 to 4 % of sets of ten.
OUTLIER_RATE = 0.003


@dataclass(frozen=True)
class CalibrationScores:
    """Scores of held-out images of good parts.

    Attributes:
        image_scores: N image scores.
        peaks: N largest values of the score maps.
        pixel_quantile: The 1 - PIXEL_RATE quantile of all their pixels.
    """

    image_scores: np.ndarray
    peaks: np.ndarray
    pixel_quantile: float


def calibrate(scores: CalibrationScores, false_positive_rate: float) -> Thresholds:
    """Choose thresholds for a requested share of good parts rejected.

    Args:
        scores: Scores of good parts; more parts give a better estimate, 1 is the least.
        false_positive_rate: Share of good parts that may be called defect, in (0, 0.5). The
            uncertain band below starts at the score that twice this share exceeds.

    Raises:
        ValueError: Rate out of range, no scores, or scores that are not finite.
    """
    require_rate(false_positive_rate)
    if len(scores.image_scores) == 0 or not np.isfinite(scores.image_scores).all():
        msg = 'calibration needs finite scores of at least one good image'
        raise ValueError(msg)
    defect = upper_limit(scores.image_scores, false_positive_rate)
    uncertain = upper_limit(scores.image_scores, UNCERTAIN_FACTOR * false_positive_rate)
    region = upper_limit(scores.peaks, false_positive_rate)
    return Thresholds(
        defect=defect,
        uncertain=min(uncertain, defect),
        region=region,
        pixel=min(max(scores.pixel_quantile, PIXEL_SHARE * region), region),
    )


def outliers(scores: np.ndarray, known: int = 0) -> list[int]:
    """Find parts that are called good and differ from the others as a defective one does.

    From the median upwards, a score that a further part like all those below it would hardly reach
    is one, and so is whatever lies above it: two defects do not hide each other.

    Args:
        scores: N scores, not negative.
        known: How many of them, the first ones, are known to be of good parts: they are not asked
            about, and the others are compared with them rather than with the lower half.

    Returns:
        Their indices, the worst first; none of fewer than four parts.
    """
    count = len(scores)
    order = np.concatenate([np.arange(known), known + np.argsort(scores[known:], kind='stable')])
    for index in range(max(3, known or math.ceil(count / 2)), count):
        below = scores[order[:index]]
        if scores[order[index]] > upper_limit(below, OUTLIER_RATE / count):
            return order[index:][::-1].tolist()
    return []


def merge(parts: Sequence[CalibrationScores]) -> CalibrationScores:
    """Put scores together; quantiles count by the number of their images."""
    counts = [len(part.image_scores) for part in parts]
    return CalibrationScores(
        image_scores=np.concatenate([part.image_scores for part in parts]),
        peaks=np.concatenate([part.peaks for part in parts]),
        pixel_quantile=float(np.average([part.pixel_quantile for part in parts], weights=counts)),
    )


def require_rate(false_positive_rate: float) -> None:
    """Check a requested share of good parts rejected, before a training is spent on it.

    Raises:
        ValueError: The rate does not lie in (0, 0.5).
    """
    if not 0 < false_positive_rate < 0.5:
        msg = f'false_positive_rate is {false_positive_rate}: it must lie between 0 and 0.5'
        raise ValueError(msg)


def upper_limit(scores: np.ndarray, rate: float) -> float:
    """Score that a further good part exceeds with probability `rate`.

    The larger of two estimates. The prediction limit of a normal distribution with unknown mean
    and variance (Hahn & Meeker, Statistical Intervals, 1991, section 4.8) is honest about how
    little ten parts say: it widens as N falls. It is taken of the cube roots of the scores, which
    make sums of squares nearly normal (Wilson & Hilferty, PNAS 17, 1931). The empirical quantile
    takes over where there are parts enough to see a heavier tail.

    Args:
        scores: N scores, not negative.
        rate: Probability in (0, 1).
    """
    scores = np.maximum(scores, np.finfo(np.float32).tiny)
    count = len(scores)
    if count == 1:
        return float(LONE_FACTOR * scores[0])
    roots = np.cbrt(scores)
    spread = max(roots.std(ddof=1), MIN_SPREAD * roots.mean())
    # The quantile of Student's t; scipy.stats has it too, but takes a second to import.
    factor = stdtrit(count - 1, 1 - rate)
    predicted = (roots.mean() + factor * spread * math.sqrt(1 + 1 / count)) ** 3
    return float(max(predicted, np.quantile(scores, 1 - rate)))
