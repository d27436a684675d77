# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A training that was interrupted goes on to what it would have been."""

from pathlib import Path
import runpy

from flow_anomaly_ros.detectors.base import Cancelled
from flow_anomaly_ros.detectors.checkpoints import NULL_CHECKPOINTS
from flow_anomaly_ros.runtime import checkpoints
from flow_anomaly_ros.runtime.checkpoints import FolderCheckpointStore
import pytest
import torch

METHODS = runpy.run_path(str(Path(__file__).parents[1] / 'detectors' / 'test_methods.py'))
CASES = [
    (method, METHODS['limit_steps'](options, 6))
    for method, options in dict(METHODS['CASES']).items()
]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """CheckpointStore of every step."""
    monkeypatch.setattr(checkpoints, 'SAVE_PERIOD_S', 0.0)
    return FolderCheckpointStore(tmp_path / 'checkpoints', 'one')


def fit(case, kept, stop=None):
    """Train until a step is reached; return the detector, its report, and the steps."""
    detector = METHODS['build'](case)
    steps = []

    def progress(stage, step, _steps, _loss):
        steps.append((stage, step))
        if (stage, step) == stop:
            raise Cancelled

    return (
        detector,
        METHODS['fit'](case, detector, METHODS['good_images'](4), 3, progress, kept),
        steps,
    )


@pytest.mark.parametrize('case', CASES, ids=lambda case: case[0])
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(case, kept):
    whole, report, steps = fit(case, NULL_CHECKPOINTS)
    # In the middle of the first, and of the last stage that is kept, and between two.
    stages = [*report.losses]
    middles = [(stage, len(report.losses[stage]) // 2) for stage in (stages[0], stages[-1])]
    for stop in dict.fromkeys([middles[0], (stages[0], len(report.losses[stages[0]])), middles[1]]):
        with pytest.raises(Cancelled):
            fit(case, kept, stop)
    resumed, report_of_rest, rest = fit(case, kept)
    assert len(rest) < len(steps)
    assert report_of_rest == report
    for name, values in whole.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name


def state(value):
    return lambda: {'value': value}


def test_states_are_kept_once_a_minute_and_at_the_end(tmp_path):
    kept = FolderCheckpointStore(tmp_path, 'one')
    kept.save('flow', state(1), is_over=False)
    assert kept.load('flow') is None
    kept.save('flow', state(2), is_over=True)
    assert kept.load('flow') == {'value': 2}
    assert kept.load('another') is None


def test_stages_of_folds_are_told_apart(kept):
    kept.of('calibration 1/3 ').save('flow', state(1), is_over=True)
    kept.save('flow', state(2), is_over=True)
    assert kept.of('calibration 1/3 ').load('flow') == {'value': 1}
    assert kept.of('calibration 2/3 ').load('flow') is None


def test_checkpoints_of_another_training_are_refused(kept, tmp_path):
    kept.save('flow', state(1), is_over=True)
    with pytest.raises(ValueError, match='belongs to a different training run'):
        FolderCheckpointStore(tmp_path / 'checkpoints', 'another').load('flow')


def test_the_seconds_of_all_runs_add_up(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(checkpoints.time, 'monotonic', lambda: now)
    for before, taken in ((0, 70), (70, 30)):
        kept = FolderCheckpointStore(tmp_path, 'one')
        kept.of('calibration 1/3 ').load('flow')
        assert kept.seconds == before
        now += taken
        kept.of('calibration 1/3 ').save('flow', state(1), is_over=True)
    kept = FolderCheckpointStore(tmp_path, 'one')
    kept.of('calibration 1/3 ').load('flow')
    assert kept.seconds == 100


def test_damaged_checkpoints_are_named(kept, tmp_path):
    kept.save('flow', state(1), is_over=True)
    (path,) = (tmp_path / 'checkpoints').iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r'flow\.checkpoint is not a checkpoint or is damaged'):
        kept.load('flow')


def test_only_checkpoints_of_the_training_are_deleted(kept, tmp_path):
    folder = tmp_path / 'checkpoints'
    kept.clear()
    kept.save('flow', state(1), is_over=True)
    # One that goes on there knows of what it has read.
    kept, other = (FolderCheckpointStore(folder, training) for training in ('one', 'another'))
    kept.load('flow')
    kept.of('calibration 1/3 ').save('flow', state(1), is_over=True)
    other.save('decoder', state(1), is_over=True)
    kept.clear()
    assert [path.name for path in folder.iterdir()] == ['decoder.checkpoint']
    other.clear()
    assert not folder.exists()
