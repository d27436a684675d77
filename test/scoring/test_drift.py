# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Drift measures how far the scores of good parts have moved since calibration."""

from flow_anomaly_ros.scoring.drift import drift, MIN_PARTS
import numpy as np
import pytest

CALIBRATION = [0.8, 0.9, 1.0, 1.1, 1.2]
SPREAD = np.std(CALIBRATION, ddof=1)


@pytest.mark.parametrize('shift', [-2.0, 0.0, 3.0])
def test_drift_is_in_standard_deviations_of_the_calibration_scores(shift):
    scores = np.random.default_rng(0).permutation(np.linspace(0.9, 1.1, 41)) + shift * SPREAD
    assert drift(scores, CALIBRATION) == pytest.approx(shift)


def test_one_unusual_part_is_no_drift():
    assert drift([1.0] * 40 + [100.0], CALIBRATION) == pytest.approx(0)


def test_there_is_no_drift_with_too_few_scores_or_equal_calibration_scores():
    assert drift([1.0] * (MIN_PARTS - 1), CALIBRATION) is None
    assert drift([1.0] * MIN_PARTS, CALIBRATION[:4]) is None
    assert drift([1.0] * MIN_PARTS, [1.0] * 10) is None


def test_twenty_parts_are_needed():
    assert drift([1.0] * 19, CALIBRATION) is None
    assert drift([1.0] * 20, CALIBRATION) is not None


@pytest.mark.parametrize('score', [0.1, 0.25, 0.3])
def test_there_is_no_drift_if_rounding_alone_spreads_the_calibration_scores(score):
    assert drift([0.5] * 20, [score] * 6) is None
