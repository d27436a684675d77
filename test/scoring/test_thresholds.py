# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds classify scores into masks and verdicts; contradictory ones are refused."""

import math

from flow_anomaly_ros.scoring.thresholds import classify, MASK_RULES, Thresholds, Verdict
import numpy as np
import pytest

LIMITS = Thresholds(defect=2.0, uncertain=1.5, region=2.0, pixel=1.0)


def score_map(peak=None):
    """Scores of 0.5, with a 3 x 3 hill of 1.2 or 1.6 around one peak."""
    scores = np.full((10, 12), 0.5, np.float32)
    if peak is not None:
        scores[4:7, 5:8] = 1.6 if peak > 2 else 1.2
        scores[5, 6] = peak
    return scores


@pytest.mark.parametrize(
    ('score', 'verdict'),
    [(0.5, 'ok'), (1.49, 'ok'), (1.5, 'uncertain'), (1.99, 'uncertain'), (2.0, 'defect')],
)
def test_the_verdict_depends_on_the_image_score(score, verdict):
    assert classify(score_map(peak=2.5), score, LIMITS)[2] == verdict


def test_a_high_score_without_a_region_is_uncertain():
    assert classify(score_map(), 9.0, LIMITS)[2] == Verdict.UNCERTAIN


@pytest.mark.parametrize('score', [1.5, 1.9, 2.0, 9.0, math.nan, math.inf])
@pytest.mark.parametrize('min_area', [1, 100])
def test_whatever_is_not_ok_shows_its_highest_score(score, min_area):
    limits = LIMITS.override(min_area=min_area)
    mask, (region, *_), verdict = classify(score_map(peak=1.4), score, limits)
    assert verdict == Verdict.UNCERTAIN
    assert region.max_score == pytest.approx(1.4)
    assert mask[5, 6] == 255
    # Scores of the region are above the pixel threshold.
    assert np.count_nonzero(mask) == 9


def test_the_mask_of_a_part_that_is_ok_is_empty():
    mask, regions, verdict = classify(score_map(peak=9.0), 1.0, LIMITS)
    assert (mask.any(), regions, verdict) == (False, (), Verdict.OK)


def test_a_low_score_map_of_a_part_that_is_not_ok_shows_its_peak():
    limits = Thresholds(defect=2.0, uncertain=0.1, region=2.0, pixel=1.0)
    scores = np.zeros((10, 12), np.float32)
    scores[3:5, 3:5], scores[8, 8] = 0.4, 0.15
    mask, (region,), _ = classify(scores, 0.4, limits)
    assert np.count_nonzero(mask) == region.area == 4


@pytest.mark.parametrize('score', [float('nan'), float('inf'), float('-inf')])
def test_a_score_that_is_not_finite_is_uncertain(score):
    assert classify(score_map(), score, LIMITS)[2] == Verdict.UNCERTAIN


def test_the_mask_extends_from_the_peak_to_the_pixel_threshold():
    mask, (region,), _ = classify(score_map(peak=2.5), 2.5, LIMITS)
    assert np.count_nonzero(mask) == 9
    assert (region.x, region.y, region.width, region.height) == (5, 4, 3, 3)
    assert region.max_score == 2.5


def test_the_rules_of_the_patent_consider_the_region_of_interest_alone():
    scores = score_map(peak=3.0) + 10
    roi = np.zeros(scores.shape, bool)
    roi[2:9, 3:10] = True
    inside = np.where(roi, scores, 0)
    for rule in ('half', 'mean'):
        limits = LIMITS.override(rule=rule)
        expected = np.count_nonzero(classify(scores[2:9, 3:10], 2.5, limits)[0])
        mask, _, _ = classify(inside, 2.5, limits, roi=roi)
        assert np.count_nonzero(mask) == expected < roi.sum()


def test_the_rule_of_the_model_is_kept_where_the_calibrated_one_is_asked_for():
    for rule in MASK_RULES:
        model = LIMITS.override(rule=rule)
        assert model.override(rule='calibrated').rule == rule
        assert model.override(rule='mean').rule == 'mean'


def test_regions_below_the_minimum_area_are_dropped():
    scores = score_map(peak=2.5)
    scores[0, 0] = 3.0
    limits = Thresholds(defect=2.0, uncertain=1.5, region=2.0, pixel=1.0, min_area=5)
    _, (region,), verdict = classify(scores, 3.0, limits)
    assert (region.area, verdict) == (9, Verdict.DEFECT)
    limits = limits.override(min_area=10)
    assert classify(scores, 3.0, limits)[2] == Verdict.UNCERTAIN


@pytest.mark.parametrize(('rule', 'expected'), [('mean', 9), ('half', 1)])
def test_the_mask_rules_of_the_patent(rule, expected):
    limits = Thresholds(defect=2.0, uncertain=1.5, region=2.0, pixel=1.0, rule=rule)
    mask, _, verdict = classify(score_map(peak=1.95), 0.5, limits)
    assert np.count_nonzero(mask) == expected
    # They mark pixels on every image; the verdict still depends on the calibrated threshold.
    assert verdict == Verdict.OK


@pytest.mark.parametrize('value', [0.1, 0.7, 1e-3])
@pytest.mark.parametrize('rule', ['mean', 'half'])
def test_a_constant_score_map_has_an_empty_mask(rule, value):
    limits = Thresholds(defect=2.0, uncertain=1.5, region=2.0, pixel=1.0, rule=rule)
    assert not classify(np.full((97, 89), value, np.float32), value, limits)[0].any()


@pytest.mark.parametrize('rule', MASK_RULES)
def test_a_score_map_of_nan_has_an_empty_mask(rule):
    limits = Thresholds(defect=2.0, uncertain=1.5, region=2.0, pixel=1.0, rule=rule)
    mask, regions, verdict = classify(np.full((4, 5), np.nan, np.float32), float('nan'), limits)
    assert mask.shape == (4, 5)
    assert (mask.any(), regions, verdict) == (False, (), Verdict.UNCERTAIN)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'uncertain': 2.1}, r'uncertain \(2.1\) must not exceed threshold defect \(2\)'),
        ({'pixel': 2.1}, r'pixel \(2.1\) must not exceed threshold region \(2\)'),
        ({'defect': float('nan')}, 'finite'),
        ({'uncertain': float('nan')}, 'finite'),
        ({'pixel': float('nan')}, 'finite'),
        ({'region': float('inf')}, 'finite'),
        ({'rule': 'guess'}, "unknown mask rule 'guess'"),
        ({'min_area': 0}, 'min_area is 0'),
    ],
)
def test_invalid_thresholds_are_refused(changes, reason):
    values = {'defect': 2.0, 'uncertain': 1.5, 'region': 2.0, 'pixel': 1.0} | changes
    with pytest.raises(ValueError, match=reason) as caught:
        Thresholds(**values)
    assert '\n' not in str(caught.value)


CALIBRATED = Thresholds(defect=10.0, uncertain=8.0, region=10.0, pixel=5.0)


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'defect': 9.0}, Thresholds(defect=9.0, uncertain=8.0, region=10.0, pixel=5.0)),
        ({'defect': 6.0}, Thresholds(defect=6.0, uncertain=6.0, region=7.5, pixel=5.0)),
        ({'uncertain': 2.0}, Thresholds(defect=10.0, uncertain=2.0, region=2.5, pixel=2.5)),
        (
            {'defect': 6.0, 'region': 9.0},
            Thresholds(defect=6.0, uncertain=6.0, region=9.0, pixel=5.0),
        ),
        ({'uncertain': 12.0}, Thresholds(defect=12.0, uncertain=12.0, region=15.0, pixel=5.0)),
        ({'pixel': 11.0}, Thresholds(defect=10.0, uncertain=8.0, region=11.0, pixel=11.0)),
        ({'min_area': 4}, Thresholds(10.0, 8.0, 10.0, 5.0, min_area=4)),
    ],
)
def test_other_thresholds_follow_a_changed_one(changes, expected):
    assert CALIBRATED.override(**changes) == expected


def test_contradictory_changes_are_refused():
    with pytest.raises(ValueError, match='uncertain'):
        CALIBRATED.override(defect=3.0, uncertain=4.0)


@pytest.mark.parametrize('factor', [1.1, 1.5, 1.9, 2, 2.1, 3, 4])
def test_a_single_pixel_is_a_defect_on_a_larger_camera_image(factor):
    score_map = np.zeros((20, 30), np.float32)
    score_map[5, 7] = 12.0
    size = (round(20 * factor), round(30 * factor))
    mask, regions, verdict = classify(score_map, 12.0, CALIBRATED, size)
    assert verdict == 'defect'
    assert mask.shape == size
    assert regions[0].max_score == 12.0
    centre = regions[0].x + regions[0].width / 2, regions[0].y + regions[0].height / 2
    assert centre == pytest.approx((7.5 * factor, 5.5 * factor), abs=1)


@pytest.mark.parametrize('size', [(19, 30), (15, 20), (7, 11), (1, 1), (40, 10), (10, 90)])
def test_a_single_pixel_is_a_defect_on_a_smaller_camera_image(size):
    for row in range(20):
        for column in (0, 7, 22, 29):
            score_map = np.zeros((20, 30), np.float32)
            score_map[row, column] = 12.0
            mask, regions, verdict = classify(score_map, 12.0, CALIBRATED, size)
            assert verdict == 'defect'
            assert mask.shape == size
            (region,) = regions
            assert region.max_score == 12.0
            centre = region.x + region.width / 2, region.y + region.height / 2
            expected = (column + 0.5) * size[1] / 30, (row + 0.5) * size[0] / 20
            assert centre == pytest.approx(expected, abs=2)


@pytest.mark.parametrize('factor', [0.5, 1, 1.5, 2, 3, 4, 8])
def test_nan_scores_belong_to_no_region(factor):
    score_map = np.zeros((20, 30), np.float32)
    score_map[5:15, 7:17] = 12.0
    score_map[10, 12] = np.nan
    size = (round(20 * factor), round(30 * factor))
    mask, regions, verdict = classify(score_map, float('nan'), CALIBRATED, size)
    assert verdict == 'uncertain'
    assert len(regions) == 1
    row, column = (int((position + 0.5) * factor) for position in (10, 12))
    assert mask.any()
    assert not mask[row, column]


def test_the_minimum_area_is_in_pixels_of_the_camera_image():
    score_map = np.zeros((20, 30), np.float32)
    score_map[5:7, 7:9] = 12.0
    limits = CALIBRATED.override(min_area=40)
    assert classify(score_map, 12.0, limits, (20, 30))[2] == 'uncertain'
    assert classify(score_map, 12.0, limits, (80, 120))[2] == 'defect'
