# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a score map says of the place of a defect, image by image."""

from flow_anomaly_ros.scoring.localisation import aupimo, peaks_outside, points_at_defect
import numpy as np
import pytest

SIZE = 320


@pytest.fixture
def mask():
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[100:120, 40:60] = True
    return mask


def good_map(seed=0):
    """Scores of a good part: all values from 0 to 1, once."""
    values = np.arange(SIZE * SIZE, dtype=np.float32) / (SIZE * SIZE - 1)
    return np.random.default_rng(seed).permutation(values).reshape(SIZE, SIZE)


def test_the_highest_score_points_at_the_defect_or_elsewhere(mask):
    score_map = np.zeros(mask.shape, np.float32)
    score_map[110, 50], score_map[10, 10] = 2, 1
    assert points_at_defect(score_map, mask)
    score_map[10, 10] = 3
    assert not points_at_defect(score_map, mask)


def test_the_same_areas_are_cut_out_of_good_images_as_of_defective_ones(mask):
    score_map = np.zeros(mask.shape, np.float32)
    # 26 and 51 px from the defect; the margin is an eighth of 320 px.
    score_map[110, 50], score_map[110, 85], score_map[110, 110] = 9, 8, 7
    good = np.zeros_like(mask)
    peaks, labels = peaks_outside([score_map] * 3, [good, mask, good])
    assert peaks.tolist() == [7, 7, 7]
    assert labels.tolist() == [False, True, False]
    everywhere = np.ones_like(mask)
    peaks, labels = peaks_outside([score_map] * 4, [everywhere, mask, good, good])
    assert labels.tolist() == [True, False]


def test_good_images_of_another_size_lose_the_area_at_their_own_size(mask):
    score_map = np.zeros(mask.shape, np.float32)
    score_map[110, 50], score_map[110, 110] = 9, 7
    larger = np.kron(score_map, np.ones((2, 2), np.float32))
    good = np.zeros_like(larger, dtype=bool)
    peaks, labels = peaks_outside([score_map, larger], [mask, good])
    assert peaks.tolist() == [7, 7]
    assert labels.tolist() == [True, False]


def test_aupimo_is_the_overlap_at_thresholds_that_good_images_hardly_exceed(mask):
    clean = np.zeros_like(mask)
    # Above all scores of the good image; below nearly all; half of the defect above.
    above = np.where(mask, 2, 0).astype(np.float32)
    below = np.where(mask, 0.5, 0).astype(np.float32)
    half = above.copy()
    half[100:110, 40:60] = 0
    areas = aupimo([good_map(), above, below, half], [clean, mask, mask, mask])
    assert areas == [None, 1, 0, pytest.approx(0.5)]


def test_aupimo_integrates_over_the_logarithm_of_the_false_positive_rate(mask):
    score_map = np.zeros(mask.shape, np.float32)
    # Found from a rate of 1 in 31 623 on, the middle of the range on a logarithmic scale.
    score_map[mask] = 1 - 10**-4.5
    (area,) = [x for x in aupimo([good_map(), score_map], [np.zeros_like(mask), mask]) if x]
    assert area == pytest.approx(0.5, abs=0.1)


def test_aupimo_needs_enough_good_pixels_and_a_defect(mask):
    assert aupimo([good_map()], [np.zeros_like(mask)]) is None
    assert aupimo([good_map()], [mask]) is None
    small = np.zeros((100, 100), dtype=bool)
    assert aupimo([good_map()[:100, :100], good_map()], [small, mask]) is None
