# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameter files and tables of parameters are generated from the declarations of the nodes."""

import importlib.util
from pathlib import Path
import shutil
import subprocess
import sys

from flow_anomaly_ros.nodes.parameters.declaration import parameters_of
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'scripts' / 'generate_reference.py'


@pytest.fixture
def generator():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location('generate_reference', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flat(values, prefix=''):
    """Nested values as ROS names them: {'camera': {'roi': ''}} as {'camera.roi': ''}."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{name}.')
        else:
            yield prefix + name, tuple(value) if isinstance(value, list) else value


def test_the_generated_files_are_up_to_date(generator, capsys):
    assert generator.main(['--check']) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    'name', ['config/rejecter.yaml', 'docs/reference/parameters_inspection_report.md']
)
def test_a_file_that_was_edited_by_hand_is_named(generator, tmp_path, monkeypatch, capsys, name):
    for folder in ('config', 'docs/reference'):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(generator, 'ROOT', tmp_path)
    assert generator.main(['--check']) == 0
    path = tmp_path / name
    content = path.read_text()
    path.write_text(content.replace('verdicts', 'results', 1))
    assert generator.main(['--check']) == 1
    assert capsys.readouterr().err.startswith(f'{name} is not up to date')
    assert generator.main([]) == 0
    assert path.read_text() == content


def test_a_parameter_file_holds_every_parameter_with_its_type_and_default(generator):
    """Its values differ from the defaults only where the comment says so."""
    for node in generator.HEADERS:
        node_parameters, camera_parameters = generator.NODES[node]
        expected = {info.name: info for info in parameters_of(node_parameters)}
        if camera_parameters:
            camera = {f'camera.{info.name}': info for info in parameters_of(camera_parameters)}
            expected |= camera
        text = (ROOT / 'config' / f'{node}.yaml').read_text()
        (content,) = yaml.safe_load(text).values()
        values = dict(flat(content['ros__parameters']))
        assert values.keys() == expected.keys()
        different = {name for name, info in expected.items() if values[name] != info.default}
        assert text.count('Default:') == len(different)
        for name, info in expected.items():
            assert type(values[name]) is type(info.default), name


def test_the_files_can_be_generated_without_ros():
    code = (
        'import runpy, sys\n'
        "sys.modules['rclpy'] = sys.modules['rcl_interfaces'] = None\n"
        "sys.argv = ['generate_reference.py', '--check']\n"
        f'runpy.run_path({str(SCRIPT)!r}, run_name="__main__")\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)
