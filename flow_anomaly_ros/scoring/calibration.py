# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds from the scores of held-out good parts."""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import NamedTuple

from flow_anomaly_ros.scoring.thresholds import Thresholds
import numpy as np
from scipy.special import bdtrc, ndtr, stdtrit

# The low threshold of the hysteresis is the score that this share of good parts' pixels exceeds,
PIXEL_RATE = 0.005
# but at least this share of the high threshold.
MIN_PIXEL_SHARE = 0.5
# What is known of the spread of scores before any part was seen counts as much as this many parts.
# Chosen on generated parts: with ten parts, the shares that exceed a limit vary less by a third.
PRIOR_PARTS = 4
# Probability that an interval of `rate_interval` holds the rate, and samples it is computed from.
COVERAGE = 0.9
INTERVAL_SAMPLES = 4000
# Lower bound of the standard deviation of cube roots, relative to their mean: repeated images of
# one part underestimate the spread.
MIN_SPREAD = 0.003
# With one part there is no spread to estimate, and the detector was trained on that part.
SINGLE_PART_FACTOR = 2.0
# Share of sets of good parts in which `outliers` reports one, if their scores' cube roots are
# normally distributed. Heavier tails raise it to 1 to 4 % of sets of ten.
OUTLIER_RATE = 0.003


@dataclass(frozen=True)
class Rates:
    """Shares of good parts that may reach the thresholds.

    Attributes:
        false_positive: Of the verdict `defect`, in (0, 0.5).
        uncertain: Of the verdicts `uncertain` and `defect` together, in (0, 0.5). Up to
            `false_positive`, no part is `uncertain`.

    Raises:
        ValueError: A rate is out of range; one line.
    """

    false_positive: float = 0.01
    uncertain: float = 0.1

    def __post_init__(self) -> None:
        for name, rate in (
            ('false_positive_rate', self.false_positive),
            ('uncertain_rate', self.uncertain),
        ):
            if not 0 < rate < 0.5:
                msg = f'{name} is {rate}: it must be between 0 and 0.5'
                raise ValueError(msg)


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


def calibrate(scores: CalibrationScores, rates: Rates, spread: float = 0.0) -> Thresholds:
    """Choose thresholds for requested rates.

    Args:
        scores: Scores of at least one good part; more parts give a better estimate.
        rates: Shares of good parts that may reach the thresholds.
        spread: See `upper_limit`.

    Raises:
        ValueError: There are no scores, or a score is not finite.
    """
    if len(scores.image_scores) == 0 or not np.isfinite(scores.image_scores).all():
        msg = 'calibration needs finite scores of at least one good image'
        raise ValueError(msg)
    defect = upper_limit(scores.image_scores, rates.false_positive, spread)
    uncertain = upper_limit(scores.image_scores, rates.uncertain, spread)
    # Whatever is not ok shows where.
    region = upper_limit(scores.peaks, max(rates.uncertain, rates.false_positive), spread)
    return Thresholds(
        defect=defect,
        uncertain=min(uncertain, defect),
        region=region,
        pixel=min(max(scores.pixel_quantile, MIN_PIXEL_SHARE * region), region),
    )


def outliers(scores: np.ndarray, known: int = 0, spread: float = 0.0) -> list[int]:
    """Find parts among supposedly good ones whose scores look like those of defective parts.

    Scores are tested from the median upwards. A score is an outlier if it exceeds the upper limit
    of all lower scores; then all higher scores are outliers too, so two defects cannot mask each
    other.

    Args:
        scores: N scores >= 0.
        known: The first `known` scores are of parts known to be good. They are never reported, and
            the others are compared with them instead of with the lower half.
        spread: See `upper_limit`.

    Returns:
        Indices of the outliers, the highest score first; empty with fewer than four parts.
    """
    count = len(scores)
    order = np.concatenate([np.arange(known), known + np.argsort(scores[known:], kind='stable')])
    for index in range(max(3, known or math.ceil(count / 2)), count):
        below = scores[order[:index]]
        if scores[order[index]] > upper_limit(below, OUTLIER_RATE / count, spread):
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


def too_many_above(above: int, parts: int, rate: float) -> bool:
    """Whether more of some good parts exceed a limit than chance explains.

    Args:
        above: Parts that exceed it.
        parts: All of them.
        rate: Share that should.

    Returns:
        Whether so many would do so in less than one of twenty sets.
    """
    return above > 0 and bool(bdtrc(above - 1, parts, rate) < 0.05)


def upper_limit(scores: np.ndarray, rate: float, spread: float = 0.0) -> float:
    """Estimate the score that the next good part exceeds with probability `rate`.

    The larger of two estimates:

    - The upper prediction limit of a normal distribution with unknown mean and variance (Hahn and
      Meeker, Statistical Intervals, 1991, section 4.8), which widens as N falls. It is computed on
      cube roots, which make sums of squares nearly normal (Wilson and Hilferty, PNAS 17, 1931).
    - The empirical quantile, where there are enough parts to show a heavier tail.

    Args:
        scores: N >= 1 scores >= 0.
        rate: Probability in (0, 1).
        spread: Standard deviation of cube roots, relative to their mean, that is expected before
            any part was seen: it counts as `PRIOR_PARTS` parts (a conjugate prior of the variance;
            Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.3). 0: nothing is known.
    """
    scores = _positive(scores)
    count = len(scores)
    if count == 1:
        return float(SINGLE_PART_FACTOR * scores[0])
    roots = _Roots.of(scores, spread)
    # Quantile of Student's t distribution; importing scipy.stats for it would take a second.
    factor = stdtrit(roots.freedom, 1 - rate)
    predicted = float(roots.mean + factor * roots.deviation * math.sqrt(1 + 1 / count)) ** 3
    if count * rate < 1:
        return predicted
    return max(predicted, float(np.quantile(scores, 1 - rate)))


def rate_interval(
    scores: np.ndarray, limit: float, spread: float = 0.0
) -> tuple[float, float, float]:
    """Estimate the share of good parts that exceed a limit, and how little is known of it.

    The model is that of `upper_limit`. Means and variances that fit the scores are drawn, always
    with the same random numbers.

    Args:
        scores: N >= 2 scores >= 0.
        limit: A score >= 0.
        spread: See `upper_limit`.

    Returns:
        The share, and the bounds of the interval that holds it with probability `COVERAGE`.
    """
    roots = _Roots.of(_positive(scores), spread)
    generator = np.random.default_rng(0)
    squares = generator.chisquare(roots.freedom, INTERVAL_SAMPLES)
    deviations = roots.deviation * np.sqrt(roots.freedom / squares)
    errors = generator.standard_normal(INTERVAL_SAMPLES) / math.sqrt(len(scores))
    shares = ndtr((roots.mean - math.cbrt(limit)) / deviations + errors)
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(shares, (tail, 1 - tail))
    return float(shares.mean()), float(low), float(high)


class _Roots(NamedTuple):
    """Cube roots of scores: their mean, standard deviation and its degrees of freedom."""

    mean: float
    deviation: float
    freedom: int

    @classmethod
    def of(cls, scores: np.ndarray, spread: float) -> '_Roots':
        roots, known = np.cbrt(scores), PRIOR_PARTS if spread > 0 else 0
        mean, freedom = float(roots.mean()), len(roots) - 1 + known
        variance = (((roots - mean) ** 2).sum() + known * (spread * mean) ** 2) / freedom
        return cls(mean, max(math.sqrt(variance), MIN_SPREAD * mean), freedom)


def _positive(scores: np.ndarray) -> np.ndarray:
    return np.maximum(scores, np.finfo(np.float32).tiny)
