# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Two processes of torchrun do what one does, and end together."""

import json
import os
from pathlib import Path
import runpy
import shutil
import subprocess
import sys

from flow_anomaly_ros import cli
from flow_anomaly_ros.detectors.registry import METHODS
from flow_anomaly_ros.runtime.artifact import load_artifact
import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).parent / 'fit_every_method.py'


def torchrun(*arguments):
    """Start two processes, which meet on the loopback device."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope='module')
def archive(parts, tmp_path_factory):
    """Two folders with images of the same names, one of which cannot be read."""
    folder = tmp_path_factory.mktemp('archive')
    shutil.copytree(parts / 'test/good', folder / 'monday')
    shutil.copytree(parts / 'test/good', folder / 'tuesday')
    shutil.copy(parts / 'test/stain/000.png', folder / 'tuesday/001.png')
    (folder / 'monday/000.png').write_text('no image')
    return folder


@pytest.fixture(scope='module')
def commands(parts, model_file, archive, tiny_options):
    """Return the arguments of a training and of a prediction, as for files in a folder."""
    options = [part for item in tiny_options.items() for part in ('--set', '{}={}'.format(*item))]

    def into(folder):
        data = ['--data', parts, '--max-images', 5, '--device', 'cpu']
        outputs = ['--output', folder / 'pictures', '--json', folder / 'results.json']
        return [
            ['train', *data, '--output', folder / 'model.safetensors', *options],
            ['predict', model_file, archive / 'monday', archive / 'tuesday', *outputs],
        ]

    return lambda folder: [[str(x) for x in command] for command in into(folder)]


@pytest.fixture(scope='module')
def together(commands, tmp_path_factory):
    """What two processes have made: a folder, their output and their results."""
    folder = tmp_path_factory.mktemp('together')
    done = torchrun(SCRIPT, folder / 'fits.json', json.dumps(commands(folder)))
    assert done.returncode == 0, done.stderr
    return folder, done, json.loads((folder / 'fits.json').read_text())


@pytest.fixture(scope='module')
def alone():
    """What one process learns."""
    return runpy.run_path(str(SCRIPT))['fit_all']()


def test_every_method_learns_in_two_processes_what_it_learns_in_one(together, alone):
    _, _, everyone = together
    cases, few = alone
    assert {one['case'] for one in cases} == {one['case'] for one in few} == set(METHODS)
    for index, expected in enumerate([*cases, *few]):
        first, second = ([*cases, *few][index] for (cases, few), _ in everyone)
        assert first == second, expected['case']
        assert first['losses'].keys() == expected['losses'].keys()
        for stage, losses in expected['losses'].items():
            assert first['losses'][stage] == pytest.approx(losses, rel=1e-4), stage
        # Whitening puts directions in which good images do not differ into any order that rounding
        # likes, and a stain shows in all of them.
        assert first['scores'] == pytest.approx(expected['scores'], rel=2e-2)


def test_decisions_on_the_way_are_those_of_one_process(together, alone):
    cases = together[2][0][0][0]
    assert [one['notes'] for one in cases] == [one['notes'] for one in alone[0]]
    stopping, adding = cases[-2:]
    assert 1 < len(stopping['losses']['flow']) < 8
    assert 'flow 2' in adding['losses']


def test_it_is_told_when_a_process_has_nothing_to_do(together, alone):
    for one, expected in zip(together[2][0][0][1], alone[1], strict=True):
        note = '1 of 2 processes ranks idle 1'
        assert sorted(one['notes']) == sorted([note, *expected['notes']])


def test_the_first_process_tells_and_writes(together, commands, tmp_path, capsys):
    folder, done, _ = together
    assert cli.main(commands(tmp_path)[0]) == 0
    out, err = capsys.readouterr()
    assert not [path for path in folder.iterdir() if path.name.endswith('.tmp')]
    # All but the time that it took.
    told = [line for line in out.splitlines() if line.startswith(('thresholds', '5 good parts'))]
    assert len(told) == 2
    for line in told:
        assert done.stdout.count(line) == 1
    assert done.stderr.count('\nflow: 20 steps') == err.count('\nflow: 20 steps') == 1
    (one, manifest), (two, other) = (
        load_artifact(path / 'model.safetensors') for path in (tmp_path, folder)
    )
    assert other.thresholds[0].defect == pytest.approx(manifest.thresholds[0].defect, rel=1e-3)
    assert other.training['digests'] == manifest.training['digests']
    for name, values in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], values, rtol=1e-3, atol=1e-3)


def test_predict_gives_what_one_process_gives(together, commands, tmp_path, capsys):
    folder, done, everyone = together
    assert cli.main(commands(tmp_path)[1]) == 1
    # Of the processes too, whichever of them could not read an image.
    assert [statuses for _, statuses in everyone] == [[0, 1], [0, 1]]
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 5
    assert sorted(line for line in done.stdout.splitlines() if line in lines) == sorted(lines)
    assert done.stderr.count(err.strip()) == 1
    one, two = (json.loads((path / 'results.json').read_text()) for path in (tmp_path, folder))
    for entry in [*one['images'], *two['images']]:
        assert set(entry.pop('timings_ms')) == {'preprocess', 'detect', 'regions'}
    assert one == two
    pictures = [sorted((path / 'pictures').iterdir()) for path in (tmp_path, folder)]
    assert len(pictures[0]) == 10
    for mine, theirs in zip(*pictures, strict=True):
        assert mine.name == theirs.name
        assert mine.read_bytes() == theirs.read_bytes()


def test_all_end_with_one_line_when_one_fails(parts, tmp_path):
    shutil.copytree(parts / 'train/good', tmp_path / 'data0')
    command = (
        f'exec {sys.executable} -m flow_anomaly_ros.cli train --device cpu '
        f'--data {tmp_path}/data$RANK --output {tmp_path}/model.safetensors'
    )
    done = torchrun('--no-python', 'sh', '-c', command)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('flow-anomaly: ')]
    assert f'data folder {tmp_path}/data1 does not exist' in line
    # The report of torchrun itself.
    before, _, _ = done.stderr.partition('ChildFailedError')
    assert before.count('Traceback') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['data0']
