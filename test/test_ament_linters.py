# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The ament linters, where a ROS installation has them: `colcon test` runs them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLAKE8 = ['--config', str(ROOT / 'setup.cfg')]
# Docstrings that begin with a shape, BxCxHxW, are not capitalised.
PEP257 = ['--convention', 'google', '--add-ignore', 'D105', 'D107', 'D403']


@pytest.mark.linter
@pytest.mark.parametrize('folder', ['flow_anomaly_ros', 'launch', 'scripts', 'benchmarks'])
def test_flake8(folder):
    main = pytest.importorskip('ament_flake8.main', reason='needs a ROS installation')
    status, errors = main.main_with_errors(argv=[*FLAKE8, str(ROOT / folder)])
    assert status == 0, '\n'.join(errors)


@pytest.mark.linter
def test_pep257():
    main = pytest.importorskip('ament_pep257.main', reason='needs a ROS installation')
    assert main.main(argv=[*PEP257, '--', str(ROOT / 'flow_anomaly_ros')]) == 0


@pytest.mark.linter
def test_xmllint():
    main = pytest.importorskip('ament_xmllint.main', reason='needs a ROS installation')
    assert main.main(argv=[str(ROOT / 'package.xml')]) == 0
