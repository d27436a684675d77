# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The time left of a training."""

from flow_anomaly_ros.runtime.eta import EtaEstimator
import pytest


def test_the_first_fold_tells_how_long_the_rest_takes():
    time_left = EtaEstimator()
    told = []
    for fold in range(4):
        prefix = f'calibration {fold + 1}/3 ' if fold < 3 else ''
        for stage in ('features', 'flow'):
            for step in range(1, 6):
                now = fold * 10 + (stage == 'flow') * 5 + step
                told.append(time_left.after(prefix + stage, step, 5, float(now)))
    assert told[:10] == [None] * 10
    # The second of four rounds, of 9 to 10 s each.
    assert told[10] == pytest.approx(30, abs=1)
    assert told[15] == pytest.approx(25, abs=2)
    assert told[-1] == pytest.approx(0, abs=1)
    assert all(value >= 0 for value in told[10:])


def test_a_final_training_longer_than_a_fold_is_estimated_by_stage():
    time_left = EtaEstimator()
    time_left.after('calibration 1/1 flow', 1, 2, 0.0)
    time_left.after('calibration 1/1 flow', 2, 2, 5.0)
    time_left.after('flow', 1, 2, 6.0)
    time_left.after('decoder', 1, 100, 12.0)
    assert time_left.after('decoder', 11, 100, 13.0) == pytest.approx(8.9)


def test_without_folds_the_remaining_time_is_estimated_by_stage():
    time_left = EtaEstimator()
    assert time_left.after('flow', 1, 100, 10.0) is None
    assert time_left.after('flow', 11, 100, 15.0) == pytest.approx(44.5)
