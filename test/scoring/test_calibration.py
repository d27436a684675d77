# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibrated thresholds reject the requested share of good parts."""

from flow_anomaly_ros.scoring.calibration import (
    calibrate,
    CalibrationScores,
    merge,
    outliers,
    rate_interval,
    Rates,
    too_many_above,
    upper_limit,
)
import numpy as np
import pytest
from scipy.special import ndtr

SHAPE = 6.0


def good_scores(rng, count):
    """Draw scores that are distributed like sums of squares, as distances are."""
    return rng.gamma(SHAPE, 1 / SHAPE, count)


def scores_of(image_scores, peaks=None, pixel_quantile=0.1):
    image_scores = np.asarray(image_scores, float)
    peaks = image_scores if peaks is None else np.asarray(peaks, float)
    return CalibrationScores(image_scores, peaks, pixel_quantile)


@pytest.mark.parametrize('count', [5, 10, 40, 300])
@pytest.mark.parametrize('rate', [0.01, 0.05])
def test_the_false_positive_rate_is_the_requested_one(count, rate):
    rng = np.random.default_rng(count)
    fresh = np.sort(good_scores(rng, 200_000))
    realised = [
        1 - np.searchsorted(fresh, upper_limit(good_scores(rng, count), rate)) / len(fresh)
        for _ in range(1500)
    ]
    assert 0.8 * rate < np.mean(realised) < 1.2 * rate


@pytest.mark.parametrize(('count', 'expected'), [(3, 2.5), (10, 1.3)])
def test_what_is_known_of_the_spread_steadies_the_limit(count, expected):
    rng = np.random.default_rng(0)
    # Cube roots with a relative standard deviation of 0.05, and one of 0.07 expected.
    sets = (1 + 0.05 * rng.standard_normal((500, count))) ** 3

    def shares(spread):
        limits = np.array([upper_limit(scores, 0.1, spread) for scores in sets])
        return ndtr((1 - np.cbrt(limits)) / 0.05)

    assert shares(0.0).std() > expected * shares(0.07).std()
    assert 0.03 < shares(0.07).mean() < 0.1
    # Many parts speak for themselves.
    many = (1 + 0.05 * rng.standard_normal(2000)) ** 3
    assert upper_limit(many, 0.1, 0.07) == pytest.approx(upper_limit(many, 0.1), rel=1e-3)


@pytest.mark.parametrize('count', [3, 10, 40])
@pytest.mark.parametrize('rate', [0.01, 0.1])
def test_intervals_hold_the_rate_as_often_as_they_say(count, rate):
    rng = np.random.default_rng(1)
    held, means = [], []
    for _ in range(400):
        scores = (1 + 0.05 * rng.standard_normal(count)) ** 3
        limit = upper_limit(scores, rate)
        mean, low, high = rate_interval(scores, limit)
        means.append(mean)
        held.append(low <= ndtr((1 - np.cbrt(limit)) / 0.05) <= high)
    assert 0.86 < np.mean(held) < 0.94
    # Before it is rounded up to the empirical quantile, a limit is exceeded as often as requested.
    assert 0.7 * rate < np.mean(means) < 1.1 * rate


@pytest.mark.parametrize(
    ('above', 'parts', 'expected'),
    [(0, 1, False), (1, 1, True), (1, 5, True), (1, 10, False), (3, 100, False), (5, 100, True)],
)
def test_more_parts_above_a_limit_than_chance_explains(above, parts, expected):
    assert too_many_above(above, parts, 0.01) == expected


def test_a_heavy_tail_is_respected_if_there_are_enough_parts():
    rng = np.random.default_rng(0)
    scores = 1 + rng.pareto(1.5, 5000)
    assert np.mean(scores > upper_limit(scores, 0.05)) <= 0.05


def test_a_lower_rate_gives_a_higher_limit():
    scores = good_scores(np.random.default_rng(1), 10)
    limits = [upper_limit(scores, rate) for rate in (0.001, 0.01, 0.05, 0.2, 0.4)]
    assert limits == sorted(limits, reverse=True)
    assert len(set(limits)) == len(limits)


def test_the_limit_scales_with_the_scores():
    scores = good_scores(np.random.default_rng(2), 10)
    assert upper_limit(1000 * scores, 0.01) == pytest.approx(1000 * upper_limit(scores, 0.01))


def test_fewer_parts_give_a_wider_margin():
    assert upper_limit(np.array([1.0, 1.2, 1.4]), 0.01) > upper_limit(
        np.array([1.0, 1.2, 1.4] * 4), 0.01
    )


@pytest.mark.parametrize('count', [4, 10, 60])
def test_outliers_are_rare_among_good_parts(count):
    found = [len(outliers(good_scores(np.random.default_rng(seed), count))) for seed in range(300)]
    assert np.count_nonzero(found) <= 6


@pytest.mark.parametrize('far', [[9.0], [9.0, 9.1], [9.0, 30.0, 8.0]])
def test_outliers_do_not_mask_each_other(far):
    scores = np.array([1.0, 1.2, *far, 0.9, 1.1, 1.3, 1.25])
    worst_first = sorted(range(2, 2 + len(far)), key=lambda index: -scores[index])
    assert outliers(scores) == worst_first
    assert outliers(np.delete(scores, worst_first)) == []


@pytest.mark.parametrize('count', [2, 8, 30])
def test_a_majority_of_outliers_is_found_by_comparison_with_known_good_parts(count):
    known = good_scores(np.random.default_rng(0), 10)
    far = np.linspace(12, 12.1, count) * known.max()
    scores = np.concatenate([known, far])
    assert outliers(scores, 10) == [*range(10, 10 + count)][::-1]
    # Good parts with a slightly larger spread are not outliers.
    assert outliers(np.concatenate([known, np.linspace(0.9, 1.15, count) * known.max()]), 10) == []


@pytest.mark.parametrize('scores', [[], [1.0], [1.0, 1.0, 50.0]])
def test_too_few_parts_have_no_outliers(scores):
    assert outliers(np.array(scores)) == []


@pytest.mark.parametrize('scores', [[1.3], [1.3] * 10])
def test_a_good_part_is_ok_under_thresholds_calibrated_on_it(scores):
    thresholds = calibrate(scores_of(scores), Rates())
    assert 1.3 < thresholds.uncertain <= thresholds.defect < 3
    assert thresholds.region > 1.3


@pytest.mark.parametrize('scores', [[0.0, 1.0], [0.0], [0.0, 0.0, 0.0], [0.0, 1e30]])
def test_calibration_accepts_scores_of_zero(scores):
    thresholds = calibrate(scores_of(scores), Rates())
    assert thresholds.defect > max(scores)


@pytest.mark.parametrize('quantile', [0.1, 0.9, 50.0])
@pytest.mark.parametrize('rate', [0.001, 0.05, 0.49])
def test_thresholds_are_in_order(rate, quantile):
    rng = np.random.default_rng(3)
    scores = scores_of(good_scores(rng, 10), good_scores(rng, 10), quantile)
    thresholds = calibrate(scores, Rates(rate))
    assert thresholds.uncertain <= thresholds.defect
    assert thresholds.pixel <= thresholds.region


def test_each_threshold_is_the_limit_for_its_rate():
    scores = [1.0, 1.1, 1.2]
    thresholds = calibrate(scores_of(scores), Rates(0.02, 0.2), 0.05)
    assert thresholds.defect == upper_limit(np.array(scores), 0.02, 0.05)
    assert thresholds.uncertain == upper_limit(np.array(scores), 0.2, 0.05) < thresholds.defect


def test_no_part_is_uncertain_up_to_the_false_positive_rate():
    thresholds = calibrate(scores_of([1.0, 1.1, 1.2]), Rates(0.2, 0.1))
    assert thresholds.uncertain == thresholds.defect


def test_the_region_threshold_is_the_limit_of_good_parts_peaks():
    peaks = [10.0, 12.0, 14.0]
    thresholds = calibrate(scores_of([1.0, 1.1, 1.2], peaks), Rates(0.01, 0.1))
    assert thresholds.region == upper_limit(np.array(peaks), 0.1)


@pytest.mark.parametrize(('share', 'expected'), [(0.1, 0.5), (0.7, 0.7), (2.0, 1.0)])
def test_the_pixel_threshold_is_the_pixel_quantile_of_good_parts_within_bounds(share, expected):
    """`share` is relative to the region threshold; the bounds are half of it and all of it."""
    peaks = [10.0, 12.0, 14.0]
    region = upper_limit(np.array(peaks), 0.1)
    thresholds = calibrate(scores_of([1.0, 1.1, 1.2], peaks, share * region), Rates())
    assert thresholds.pixel == pytest.approx(expected * region)


def test_a_single_part_gives_a_wide_margin():
    assert calibrate(scores_of([1.0]), Rates()).defect >= 1.5


def test_merged_pixel_quantiles_are_weighted_by_image_counts():
    merged = merge([scores_of([1.0], [5.0], 4.0), scores_of([2.0] * 3, [6.0] * 3, 0.0)])
    assert merged.pixel_quantile == 1.0
    assert merged.image_scores.tolist() == [1.0, 2.0, 2.0, 2.0]
    assert merged.peaks.tolist() == [5.0, 6.0, 6.0, 6.0]


@pytest.mark.parametrize('rate', [0.0, 0.5, 1.0, -0.1, float('nan')])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match='false_positive_rate'):
        Rates(false_positive=rate)
    with pytest.raises(ValueError, match='uncertain_rate'):
        Rates(uncertain=rate)


@pytest.mark.parametrize('scores', [[], [1.0, float('nan')], [float('inf')]])
def test_missing_or_infinite_scores_are_refused(scores):
    with pytest.raises(ValueError, match='finite scores'):
        calibrate(scores_of(scores), Rates())
