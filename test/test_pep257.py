# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Docstrings pass ament_pep257 in Google style, as ruff.toml sets it."""

from pathlib import Path

import pytest

pep257 = pytest.importorskip('ament_pep257.main', reason='needs ament_pep257')

ROOT = Path(__file__).parents[1]
CODE = ('benchmarks', 'flow_anomaly_ros', 'launch', 'scripts', 'setup.py')
# D105, D107: magic methods and __init__ are described by their class.
# D403: a docstring may begin with a shape such as BxCxHxW, which the rule calls misspelt.
IGNORED = ('D105', 'D107', 'D403')
# Names of tests say what they verify; docstrings of fixtures show how the fixture is called.
IGNORED_IN_TESTS = (*IGNORED, 'D100', 'D101', 'D102', 'D103', 'D104', 'D402')


@pytest.mark.linter
@pytest.mark.parametrize(
    ('ignored', 'checked'), [(IGNORED, CODE), (IGNORED_IN_TESTS, ('test',))], ids=['code', 'tests']
)
def test_pep257(monkeypatch, capsys, ignored, checked):
    monkeypatch.chdir(ROOT)
    status = pep257.main(argv=['--convention', 'google', '--add-ignore', *ignored, '--', *checked])
    errors = [line for line in capsys.readouterr().err.splitlines() if ': D' in line]
    assert errors == []
    assert status == 0
