# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The code passes ament_flake8 with the options of setup.cfg."""

from pathlib import Path

import pytest

flake8 = pytest.importorskip('ament_flake8.main', reason='needs ament_flake8')

ROOT = Path(__file__).parents[1]
# Not docs: Sphinx requires a variable named as the builtin `copyright`.
CHECKED = ('benchmarks', 'flow_anomaly_ros', 'launch', 'scripts', 'setup.py', 'test')


@pytest.mark.linter
@pytest.mark.slow
def test_flake8(monkeypatch):
    monkeypatch.chdir(ROOT)
    status, errors = flake8.main_with_errors(argv=['--config', 'setup.cfg', *CHECKED])
    assert errors == []
    assert status == 0
