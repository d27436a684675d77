# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Regions of a mask and hysteresis thresholding, on drawn shapes with known geometry."""

import math

import cv2
from flow_anomaly_ros.scoring.regions import find_regions, hysteresis_mask
import numpy as np
import pytest


def filled(shape, *boxes):
    """Draw a mask with boxes (x, y, width, height) set to 255."""
    mask = np.zeros(shape, np.uint8)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = 255
    return mask


def rotated_rectangle(degrees, centre=(100, 90), width=80, height=20):
    """Draw a 200x200 mask of a rectangle turned clockwise (y points down)."""
    rows, columns = np.mgrid[:200, :200]
    dx, dy = columns - centre[0], rows - centre[1]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    inside = (np.abs(along) <= width / 2) & (np.abs(across) <= height / 2)
    return np.where(inside, 255, 0).astype(np.uint8)


def test_a_region_has_geometry_and_scores():
    mask = filled((40, 60), (10, 5, 20, 8))
    score_map = np.full(mask.shape, 9, np.float32)
    score_map[mask > 0] = 1
    score_map[7, 12] = 5
    (region,) = find_regions(score_map, mask)
    assert (region.x, region.y, region.width, region.height) == (10, 5, 20, 8)
    assert region.area == 160
    assert region.max_score == 5
    assert region.mean_score == pytest.approx(164 / 160)
    assert region.contour.dtype == np.int32
    assert {tuple(p) for p in region.contour.tolist()} == {(10, 5), (29, 5), (29, 12), (10, 12)}


@pytest.mark.parametrize(
    ('box', 'expected'),
    [
        ((10, 5, 20, 8), (19.5, 8.5, 20, 8, 0)),
        ((10, 5, 8, 20), (13.5, 14.5, 20, 8, math.pi / 2)),
        ((10, 5, 6, 6), (12.5, 7.5, 6, 6, 0)),
        ((10, 5, 7, 1), (13, 5, 7, 1, 0)),
        ((10, 5, 1, 1), (10, 5, 1, 1, 0)),
    ],
)
def test_the_rotated_box_of_an_upright_region_is_its_upright_box(box, expected):
    mask = filled((40, 60), box)
    (region,) = find_regions(mask.astype(np.float32), mask)
    assert region.rotated_box == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize('degrees', [-80, -60, -45, -30, -10, 10, 30, 45, 60, 80])
def test_the_angle_of_a_rotated_box_is_clockwise_from_x_to_the_longer_side(degrees):
    mask = rotated_rectangle(degrees)
    (region,) = find_regions(mask.astype(np.float32), mask)
    x, y, width, height, angle = region.rotated_box
    assert (x, y) == pytest.approx((100, 90), abs=0.1)
    assert (width, height) == pytest.approx((81, 21), abs=1)
    assert math.degrees(angle) == pytest.approx(degrees, abs=0.5)


def test_the_rotated_box_of_a_turned_square_has_a_unique_angle():
    mask = np.zeros((40, 40), np.uint8)
    cv2.fillPoly(mask, [np.array([(20, 10), (30, 20), (20, 30), (10, 20)])], 255)
    (region,) = find_regions(mask.astype(np.float32), mask)
    assert region.rotated_box[2] == pytest.approx(region.rotated_box[3])
    assert region.rotated_box[4] == pytest.approx(math.pi / 4)


def test_regions_are_sorted_by_max_score_and_small_ones_dropped():
    mask = filled((50, 50), (1, 1, 3, 3), (10, 1, 4, 4), (20, 1, 2, 2), (30, 30, 5, 5))
    score_map = np.zeros(mask.shape, np.float32)
    score_map[2, 2], score_map[2, 11], score_map[1, 20], score_map[32, 32] = 2, 3, 4, 2
    regions = find_regions(score_map, mask, min_area=9)
    assert [(r.x, r.y, r.max_score) for r in regions] == [(10, 1, 3), (1, 1, 2), (30, 30, 2)]


def test_diagonal_pixels_are_one_region():
    mask = filled((10, 10), (2, 2, 1, 1), (3, 3, 1, 1))
    (region,) = find_regions(mask.astype(np.float32), mask)
    assert region.area == 2


def test_a_region_inside_the_hole_of_another_is_found():
    mask = filled((30, 30), (2, 2, 20, 20))
    mask[4:20, 4:20] = 0
    mask[10:13, 10:13] = 255
    score_map = np.ones(mask.shape, np.float32)
    score_map[11, 11] = 2
    inner, ring = find_regions(score_map, mask)
    assert (inner.area, inner.max_score) == (9, 2)
    assert (ring.area, ring.max_score, ring.mean_score) == (20 * 20 - 16 * 16, 1, 1)


def test_regions_at_the_border_have_all_their_pixels():
    mask = filled((20, 30), (0, 0, 3, 2), (28, 17, 2, 3))
    regions = find_regions(mask.astype(np.float32), mask)
    boxes = [(r.x, r.y, r.width, r.height, r.area) for r in regions]
    assert boxes == [(0, 0, 3, 2, 6), (28, 17, 2, 3, 6)]


def test_each_of_many_regions_has_its_own_pixels():
    rng = np.random.default_rng(0)
    score_map = rng.random((120, 150), dtype=np.float32)
    mask = np.where(score_map > 0.8, 255, 0).astype(np.uint8)
    regions = find_regions(score_map, mask)
    assert len(regions) > 300
    assert sum(r.area for r in regions) == np.count_nonzero(mask)
    for region in regions[::20]:
        own = np.zeros_like(mask)
        cv2.drawContours(own, [region.contour], -1, 255, cv2.FILLED)
        assert region.max_score == score_map[own > 0].max()
        own &= mask
        assert cv2.boundingRect(own) == (region.x, region.y, region.width, region.height)


def test_an_empty_mask_has_no_regions():
    mask = np.zeros((5, 5), np.uint8)
    assert find_regions(np.ones((5, 5), np.float32), mask) == ()


def test_find_regions_refuses_bad_input():
    mask = filled((10, 10), (2, 2, 3, 3))
    with pytest.raises(ValueError, match='give both as HxW of one size'):
        find_regions(np.zeros((10, 9), np.float32), mask)
    with pytest.raises(ValueError, match='score map is NaN under the mask'):
        find_regions(np.full((10, 10), np.nan, np.float32), mask)


def test_hysteresis_keeps_weak_pixels_only_next_to_strong_ones():
    score_map = np.zeros((20, 40), np.float32)
    score_map[2:6, 2:6] = 0.5
    score_map[6, 6] = 1  # touches the first block by a corner only
    score_map[2:6, 20:24] = 0.5
    mask = hysteresis_mask(score_map, low=0.4, high=1)
    expected = filled((20, 40), (2, 2, 4, 4), (6, 6, 1, 1))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)


def test_hysteresis_drops_small_regions():
    score_map = filled((20, 20), (1, 1, 3, 3), (10, 10, 4, 4)).astype(np.float32)
    mask = hysteresis_mask(score_map, low=0, high=1, min_area=10)
    np.testing.assert_array_equal(mask, filled((20, 20), (10, 10, 4, 4)))


def test_hysteresis_excludes_scores_equal_to_low_and_includes_those_equal_to_high():
    score_map = np.array([[0, 1, 0, 2, 0, 2]], np.float32)
    assert hysteresis_mask(score_map, low=1, high=2).tolist() == [[0, 0, 0, 255, 0, 255]]
    assert hysteresis_mask(score_map, low=2, high=2).tolist() == [[0] * 6]
    assert hysteresis_mask(score_map, low=0, high=2).tolist() == [[0, 0, 0, 255, 0, 255]]


def test_hysteresis_drops_nan_and_keeps_infinite_scores():
    score_map = np.full((5, 9), np.nan, np.float32)
    assert not hysteresis_mask(score_map, 0, 1).any()
    score_map[:, 6:] = 0.5
    score_map[2, 8] = np.inf
    score_map[:, :2] = 0.5
    mask = hysteresis_mask(score_map, 0, 1)
    np.testing.assert_array_equal(mask, filled((5, 9), (6, 0, 3, 5)))
    (region,) = find_regions(score_map, mask)
    assert region.max_score == math.inf


def test_hysteresis_refuses_bad_input():
    with pytest.raises(ValueError, match='give it as HxW'):
        hysteresis_mask(np.zeros((1, 5, 5), np.float32), 0, 1)
    for low, high in [(2, 1), (math.nan, 1), (0, math.nan)]:
        with pytest.raises(ValueError, match='give numbers with low <= high'):
            hysteresis_mask(np.zeros((5, 5), np.float32), low, high)


def test_regions_are_cut_down_to_a_share_of_their_own_maximum():
    rows, columns = np.mgrid[:60, :60]
    strong = 10 * np.exp(-((rows - 20) ** 2 + (columns - 20) ** 2) / 50)
    weak = 2 * np.exp(-((rows - 45) ** 2 + (columns - 45) ** 2) / 50)
    scores = (strong + weak).astype(np.float32)
    mask = hysteresis_mask(scores, 0.5, 1.0, share=0.6)
    first, second = find_regions(scores, mask)
    # A Gaussian of 5 px falls to 60 % within 5 px.
    assert first.width == second.width == 11
    assert hysteresis_mask(scores, 0.5, 1.0).sum() > 3 * mask.sum()
    assert not hysteresis_mask(scores, 0.5, 1.0, min_area=100, share=0.6).any()
