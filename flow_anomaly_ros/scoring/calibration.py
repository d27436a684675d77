# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds from the scores of held-out good parts."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

from flow_anomaly_ros.scoring.thresholds import Thresholds
import numpy as np
from scipy.special import stdtrit

# The low threshold of the hysteresis is the score that this share of good parts' pixels exceeds,
PIXEL_RATE = 0.005
# but at least this share of the high threshold.
MIN_PIXEL_SHARE = 0.5
# The uncertain band starts at the limit for this many times the requested false-positive rate.
UNCERTAIN_FACTOR = 2.0
# Lower bound of the standard deviation of cube roots, relative to their mean: repeated images of
# one part underestimate the spread.
MIN_SPREAD = 0.003
# With one part there is no spread to estimate, and the detector was trained on that part.
SINGLE_PART_FACTOR = 2.0
# Share of sets of good parts in which `outliers` reports one, if their scores' cube roots are
# normally distributed. Heavier tails raise it to 1 to 4 % of sets of ten.
OUTLIER_RATE = 0.003


@dataclass(frozen=True)
class CalibrationScores:
    """Scores of held-out images of good parts.

    Attributes:
        image_scores: N image scores.
        peaks: N maxima of the score maps.
        pixel_quantile: The 1 - PIXEL_RATE quantile of all pixels of the score maps.
    """

    image_scores: np.ndarray
    peaks: np.ndarray
    pixel_quantile: float


def calibrate(scores: CalibrationScores, false_positive_rate: float) -> Thresholds:
    """Choose thresholds for a requested false-positive rate.

    Args:
        scores: Scores of at least one good part; more parts give a better estimate.
        false_positive_rate: Share of good parts that may be classified as defect, in (0, 0.5). The
            uncertain band starts at the score that twice this share exceeds.

    Raises:
        ValueError: The rate is out of range, there are no scores, or a score is not finite.
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
        pixel=min(max(scores.pixel_quantile, MIN_PIXEL_SHARE * region), region),
    )


def outliers(scores: np.ndarray, known: int = 0) -> list[int]:
    """Find parts among supposedly good ones whose scores look like those of defective parts.

    Scores are tested from the median upwards. A score is an outlier if it exceeds the upper limit
    of all lower scores; then all higher scores are outliers too, so two defects cannot mask each
    other.

    Args:
        scores: N scores >= 0.
        known: The first `known` scores are of parts known to be good. They are never reported, and
            the others are compared with them instead of with the lower half.

    Returns:
        Indices of the outliers, the highest score first; empty with fewer than four parts.
    """
    count = len(scores)
    order = np.concatenate([np.arange(known), known + np.argsort(scores[known:], kind='stable')])
    for index in range(max(3, known or math.ceil(count / 2)), count):
        below = scores[order[:index]]
        if scores[order[index]] > upper_limit(below, OUTLIER_RATE / count):
            return order[index:][::-1].tolist()
    return []


def merge(parts: Sequence[CalibrationScores]) -> CalibrationScores:
    """Concatenate calibration scores; pixel quantiles are averaged, weighted by image counts."""
    counts = [len(part.image_scores) for part in parts]
    return CalibrationScores(
        image_scores=np.concatenate([part.image_scores for part in parts]),
        peaks=np.concatenate([part.peaks for part in parts]),
        pixel_quantile=float(np.average([part.pixel_quantile for part in parts], weights=counts)),
    )


def require_rate(false_positive_rate: float) -> None:
    """Check a requested false-positive rate; called before training, to fail early.

    Raises:
        ValueError: The rate is not in (0, 0.5).
    """
    if not 0 < false_positive_rate < 0.5:
        msg = f'false_positive_rate is {false_positive_rate}: it must be between 0 and 0.5'
        raise ValueError(msg)


def upper_limit(scores: np.ndarray, rate: float) -> float:
    """Estimate the score that the next good part exceeds with probability `rate`.

    The larger of two estimates:

    - The upper prediction limit of a normal distribution with unknown mean and variance (Hahn and
      Meeker, Statistical Intervals, 1991, section 4.8), which widens as N falls. It is computed on
      cube roots, which make sums of squares nearly normal (Wilson and Hilferty, PNAS 17, 1931).
    - The empirical quantile, which is larger if there are enough parts to show a heavier tail.

    Args:
        scores: N >= 1 scores >= 0.
        rate: Probability in (0, 1).
    """
    scores = np.maximum(scores, np.finfo(np.float32).tiny)
    count = len(scores)
    if count == 1:
        return float(SINGLE_PART_FACTOR * scores[0])
    roots = np.cbrt(scores)
    spread = max(roots.std(ddof=1), MIN_SPREAD * roots.mean())
    # Quantile of Student's t distribution; importing scipy.stats for it would take a second.
    factor = stdtrit(count - 1, 1 - rate)
    predicted = (roots.mean() + factor * spread * math.sqrt(1 + 1 / count)) ** 3
    return float(max(predicted, np.quantile(scores, 1 - rate)))
