# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Counters of one camera, and what the diagnostics make of them."""

from types import SimpleNamespace

from flow_anomaly_ros.nodes import statistics
from flow_anomaly_ros.nodes.statistics import CameraStatistics
import pytest


def inspection(score=0.5, verdict='ok', part_class=''):
    return SimpleNamespace(image_score=score, verdict=verdict, part_class=part_class)


def test_an_error_is_new_once_until_a_frame_is_inspected():
    counts = CameraStatistics()
    assert counts.add_failure('no light')
    assert not counts.add_failure('no light')
    assert counts.snapshot().last_error == 'no light'
    counts.add(inspection(), {})
    assert counts.snapshot().last_error == ''
    assert counts.add_failure('no light')
    assert (counts.snapshot().inspected, counts.snapshot().failed) == (1, 3)


def test_scores_of_ok_parts_are_kept_until_the_class_changes():
    counts = CameraStatistics()
    for score, verdict in ((0.1, 'ok'), (0.9, 'defect'), (0.6, 'uncertain'), (0.2, 'ok')):
        counts.add(inspection(score, verdict, 'nut'), {})
    assert counts.snapshot().ok_scores == (0.1, 0.2)
    assert counts.snapshot().verdicts == {'ok': 2, 'defect': 1, 'uncertain': 1}
    counts.add(inspection(0.3, 'ok', 'bolt'), {})
    assert counts.snapshot().ok_scores == (0.3,)
    assert counts.snapshot().part_class == 'bolt'


def test_the_rate_is_that_of_the_last_ten_seconds(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(statistics, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    counts = CameraStatistics()
    rates = []
    for _ in range(60):
        now[0] += 0.5
        counts.add(inspection(), {})
        rates.append(counts.snapshot().rate)
    # One frame in the first half second is no two per second yet.
    assert rates == [1.0] + [2.0] * 59
    now[0] += 5
    assert counts.snapshot().rate == 1.0
    now[0] += 5
    assert counts.snapshot().rate == 0.0


@pytest.mark.ros
@pytest.mark.parametrize(('score', 'drift'), [(0.9, '+4.2'), (0.1, '-7.1'), (0.6, None)])
def test_drift_in_either_direction_is_reported(score, drift):
    pytest.importorskip('rclpy')
    from diagnostic_msgs.msg import DiagnosticStatus
    from flow_anomaly_ros.nodes.diagnostics import camera_status

    counts = CameraStatistics()
    for _ in range(20):
        counts.add(inspection(score), {})
    scores = (0.5, 0.6, 0.6, 0.6, 0.7)
    manifest = SimpleNamespace(
        classes=[SimpleNamespace(name='', calibration_scores=scores)], method='restoration'
    )
    camera = SimpleNamespace(
        name='front',
        engine=SimpleNamespace(manifest=manifest, backend=SimpleNamespace(name='PyTorch on cpu')),
        statistics=counts,
        input=SimpleNamespace(is_subscribed=True, shape='', lost=0),
        problem=lambda: '',
        parameters=SimpleNamespace(enabled=True),
        model_file='model.safetensors',
    )
    status = camera_status('detector', camera, is_active=True, dropped=0)
    assert status.level == (DiagnosticStatus.WARN if drift else DiagnosticStatus.OK)
    assert not drift or f'drifted by {drift} standard deviations' in status.message
