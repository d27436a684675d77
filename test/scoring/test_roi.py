# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores outside a region of interest do not count."""

from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.scoring.roi import apply_roi, read_roi
import numpy as np
import pytest


def upper_half(size):
    roi = np.zeros(size, bool)
    roi[: size[0] // 2] = True
    return roi


@pytest.mark.parametrize('size', [(8, 12), (16, 24), (80, 120)])
def test_scores_outside_are_ignored_whatever_the_size_of_the_region_image(size):
    score_map = np.full((8, 12), 1.0, np.float32)
    score_map[6] = 5.0
    inside, image_score = apply_roi(score_map, 5.0, upper_half(size))
    assert (inside[:4] == 1).all()
    assert (inside[4:] == 0).all()
    assert image_score == 1.0


def test_the_image_score_stays_if_the_largest_score_is_inside():
    score_map = np.full((8, 12), 1.0, np.float32)
    score_map[1] = 5.0
    # The image score may be lower than the peak, as some detectors weight the border less.
    assert apply_roi(score_map, 4.0, upper_half((8, 12)))[1] == 4.0


@pytest.mark.parametrize('row', [1, 6])
def test_a_nan_image_score_stays_nan(row):
    score_map = np.full((8, 12), 1.0, np.float32)
    score_map[row] = np.nan
    assert np.isnan(apply_roi(score_map, float('nan'), upper_half((8, 12)))[1])


@pytest.mark.parametrize('channels', [(), (3,)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_black_is_outside_the_region(tmp_path, channels, dtype):
    picture = np.zeros((6, 9, *channels), dtype)
    picture[2:4] = np.iinfo(dtype).max
    write_image(tmp_path / 'roi.png', picture)
    roi = read_roi(tmp_path / 'roi.png')
    assert roi.dtype == bool
    assert roi.sum() == 2 * 9
    assert roi[2:4].all()


def test_a_missing_or_black_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'region of interest: .*none\.png'):
        read_roi(tmp_path / 'none.png')
    write_image(tmp_path / 'black.png', np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match='black everywhere'):
        read_roi(tmp_path / 'black.png')


def test_any_colour_but_black_is_inside_the_region(tmp_path):
    picture = np.zeros((6, 9, 3), np.uint8)
    picture[2:4] = (0, 0, 1)
    write_image(tmp_path / 'roi.png', picture)
    assert read_roi(tmp_path / 'roi.png').sum() == 2 * 9


@pytest.mark.parametrize('thickness', [1, 4])
def test_a_thin_region_survives_shrinking(thickness):
    scores = np.full((64, 86), 9, np.float32)
    for row in range(0, 1080 - thickness, 7):
        roi = np.zeros((1080, 1440), bool)
        roi[row : row + thickness] = True
        assert apply_roi(scores, 9.0, roi)[1] == 9.0
