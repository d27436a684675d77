# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The examples of the documents run as they are printed."""

import json
import os
from pathlib import Path
import re
import subprocess
import sys

from flow_anomaly_ros.data.generated import write_dataset
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
METHOD_FILES = ('config.py', 'model.py', 'training.py', '__init__.py')


def python_blocks(page):
    return re.findall(r'^```python\n(.*?)^```', (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


# In one process, but each block with names of its own: the imports take most of the time.
RUN_BLOCKS = """
import contextlib, io, json, sys
outputs = []
for block in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(block, {'__name__': '__main__'})
    outputs.append(output.getvalue())
print(json.dumps(outputs))
"""


def run(blocks, folder):
    done = subprocess.run(
        [sys.executable, '-c', RUN_BLOCKS],
        cwd=folder,
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_python_examples_run_one_after_the_other(tmp_path):
    write_dataset(tmp_path / 'parts', train=4, good=2, per_defect=1, size=64)
    blocks = python_blocks('python-api.md')
    assert len(blocks) == 5
    _, _, inspect, _, evaluate = run(blocks, tmp_path)
    assert (tmp_path / 'model.safetensors').is_file()
    assert inspect.split()[0] in ('ok', 'uncertain', 'defect')
    assert len(evaluate.split()) == 2


@pytest.mark.slow
def test_a_method_is_added_as_the_page_says(tmp_path):
    blocks = python_blocks('add-a-method.md')
    assert len(blocks) == len(METHOD_FILES)
    # A copy of the package, with the folder that the page makes and the line in the registry.
    package = tmp_path / 'flow_anomaly_ros'
    for path in (ROOT / 'flow_anomaly_ros').rglob('*.py'):
        target = package / path.relative_to(ROOT / 'flow_anomaly_ros')
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    folder = package / 'detectors' / 'mean_image'
    folder.mkdir()
    for name, block in zip(METHOD_FILES, blocks, strict=True):
        (folder / name).write_text(block)
    registry = package / 'detectors' / 'registry.py'
    text = registry.read_text()
    text = text.replace('    feature_fusion,\n', '    feature_fusion,\n    mean_image,\n', 1)
    text = text.replace(
        '        timenet.METHOD,\n', '        timenet.METHOD,\n        mean_image.METHOD,\n'
    )
    registry.write_text(text)
    write_dataset(tmp_path / 'parts', train=4, good=2, per_defect=1, size=64)
    train = ('train', '--method', 'mean_image', '--data', 'parts', '--output')
    commands = [
        (*train, 'model.safetensors'),
        (*train, 'tiled.safetensors', '--tile', '64'),
        ('evaluate', 'model.safetensors', '--data', 'parts'),
        ('methods',),
    ]
    code = (
        'from flow_anomaly_ros import cli; import flow_anomaly_ros as package\n'
        f'assert package.__file__.startswith({str(tmp_path)!r})\n'
        f'assert [cli.main(command) for command in {commands!r}] == [0] * {len(commands)}'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert 'mean_image: distance from the mean good image' in done.stdout


@pytest.mark.parametrize('page', ['python-api.md', 'add-a-method.md'])
def test_examples_keep_to_the_line_length(page):
    assert all(len(line) <= 100 for block in python_blocks(page) for line in block.splitlines())
