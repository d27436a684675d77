# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Two processes of torchrun give the results of one, and end together."""

import json
import os
from pathlib import Path
import runpy
import shutil
import sys

from flow_anomaly_ros import cli
from flow_anomaly_ros.detectors.registry import METHODS
from flow_anomaly_ros.runtime.artifact import load_artifact
import pytest
import torch
from waiting import run_to_end

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).parent / 'fit_every_method.py'


def torchrun(*arguments):
    """Run a command in two processes, which communicate through the loopback device."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    return run_to_end(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
    )


@pytest.fixture(scope='module')
def archive(parts, tmp_path_factory):
    """Make two folders with images of the same names; one image cannot be read."""
    folder = tmp_path_factory.mktemp('archive')
    shutil.copytree(parts / 'test/good', folder / 'monday')
    shutil.copytree(parts / 'test/good', folder / 'tuesday')
    shutil.copy(parts / 'test/stain/000.png', folder / 'tuesday/001.png')
    (folder / 'monday/000.png').write_text('no image')
    return folder


@pytest.fixture(scope='module')
def commands(parts, model_file, archive, tiny_options):
    """Return a function that gives the arguments of `train` and `predict` for an output folder."""
    options = [part for item in tiny_options.items() for part in ('--set', '{}={}'.format(*item))]

    def commands_for(folder):
        data = ['--data', parts, '--max-images', 5, '--device', 'cpu']
        outputs = ['--output', folder / 'pictures', '--json', folder / 'results.json']
        return [
            ['train', *data, '--output', folder / 'model.safetensors', *options],
            ['predict', model_file, archive / 'monday', archive / 'tuesday', *outputs],
        ]

    return lambda folder: [[str(x) for x in command] for command in commands_for(folder)]


@pytest.fixture(scope='module')
def two_processes(commands, tmp_path_factory):
    """Train and predict in two processes; gives the folder, their output and their results."""
    folder = tmp_path_factory.mktemp('two_processes')
    completed = torchrun(SCRIPT, folder / 'fits.json', json.dumps(commands(folder)))
    assert completed.returncode == 0, completed.stderr
    return folder, completed, json.loads((folder / 'fits.json').read_text())


@pytest.fixture(scope='module')
def one_process():
    """Train in one process."""
    return runpy.run_path(str(SCRIPT))['fit_all']()


def test_every_method_trains_to_the_same_result_in_two_processes_as_in_one(
    two_processes, one_process
):
    _, _, ranks = two_processes
    cases, few = one_process
    assert {fit['case'] for fit in cases} == {fit['case'] for fit in few} == set(METHODS)
    for index, expected in enumerate([*cases, *few]):
        first, second = ([*cases, *few][index] for (cases, few), _ in ranks)
        assert first == second, expected['case']
        assert first['losses'].keys() == expected['losses'].keys()
        for stage, losses in expected['losses'].items():
            assert first['losses'][stage] == pytest.approx(losses, rel=1e-4), stage
        # Whitening orders directions without variance by rounding errors, and a stain shows in all
        # of them.
        assert first['scores'] == pytest.approx(expected['scores'], rel=2e-2)


def test_decisions_during_training_are_those_of_one_process(two_processes, one_process):
    cases = two_processes[2][0][0][0]
    assert [fit['notes'] for fit in cases] == [fit['notes'] for fit in one_process[0]]
    stopping, adding = cases[-2:]
    assert 1 < len(stopping['losses']['flow']) < 8
    assert 'flow 2' in adding['losses']


def test_a_note_reports_processes_without_samples(two_processes, one_process):
    for fit, expected in zip(two_processes[2][0][0][1], one_process[1], strict=True):
        note = 'batch 1 is smaller than world size 2: 1 rank idle'
        assert sorted(fit['notes']) == sorted([note, *expected['notes']])


def test_only_the_first_process_prints_and_writes(two_processes, commands, tmp_path, capsys):
    folder, completed, _ = two_processes
    assert cli.main(commands(tmp_path)[0]) == 0
    out, err = capsys.readouterr()
    assert not [path for path in folder.iterdir() if path.name.endswith('.tmp')]
    # All lines but those with the elapsed time.
    starts = '5 good parts', 'uncertain from', 'defect from', 'the good part'
    reported = [line for line in out.splitlines() if line.startswith(starts)]
    assert len(reported) == 4
    for line in reported:
        assert completed.stdout.count(line) == 1
    assert completed.stderr.count('\nflow: 8 steps') == err.count('\nflow: 8 steps') == 1
    (detector, manifest), (other_detector, other_manifest) = (
        load_artifact(path / 'model.safetensors') for path in (tmp_path, folder)
    )
    assert other_manifest.thresholds[0].defect == pytest.approx(
        manifest.thresholds[0].defect, rel=1e-3
    )
    assert other_manifest.training['digests'] == manifest.training['digests']
    for name, values in detector.state_dict().items():
        torch.testing.assert_close(other_detector.state_dict()[name], values, rtol=1e-3, atol=1e-3)


def test_predict_gives_the_same_results_in_two_processes_as_in_one(
    two_processes, commands, tmp_path, capsys
):
    folder, completed, ranks = two_processes
    assert cli.main(commands(tmp_path)[1]) == 1
    # Both processes exit with 1, although only one of them had the unreadable image.
    assert [statuses for _, statuses in ranks] == [[0, 1], [0, 1]]
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 5
    assert sorted(line for line in completed.stdout.splitlines() if line in lines) == sorted(lines)
    assert completed.stderr.count(err.strip()) == 1
    results, other_results = (
        json.loads((path / 'results.json').read_text()) for path in (tmp_path, folder)
    )
    for entry in [*results['images'], *other_results['images']]:
        assert set(entry.pop('timings_ms')) == {'preprocess', 'detect', 'regions'}
    assert results == other_results
    pictures = [sorted((path / 'pictures').iterdir()) for path in (tmp_path, folder)]
    assert len(pictures[0]) == 10
    for picture, other_picture in zip(*pictures, strict=True):
        assert picture.name == other_picture.name
        assert picture.read_bytes() == other_picture.read_bytes()


def test_all_processes_end_with_one_error_line_when_one_fails(parts, tmp_path):
    shutil.copytree(parts / 'train/good', tmp_path / 'data0')
    command = (
        f'exec {sys.executable} -m flow_anomaly_ros.cli train --device cpu '
        f'--data {tmp_path}/data$RANK --output {tmp_path}/model.safetensors'
    )
    completed = torchrun('--no-python', 'sh', '-c', command)
    assert completed.returncode != 0
    (line,) = [line for line in completed.stderr.splitlines() if line.startswith('flow-anomaly: ')]
    assert f'data folder {tmp_path}/data1 does not exist' in line
    # The only traceback is that of torchrun itself.
    before, _, _ = completed.stderr.partition('ChildFailedError')
    assert before.count('Traceback') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['data0']
