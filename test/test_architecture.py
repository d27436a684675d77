# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Imports run one way: .importlinter says which folder may import which."""

from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
# Modules that are imported within functions, and why: nothing else hides an import.
OPTIONAL_OR_SLOW = (
    'cv_bridge',
    'matplotlib',
    'openvino',
    'rosbags',
    'scipy',
    'sensor_msgs',
    'std_msgs',
    'timm',
    'importlib',
)


@pytest.fixture(scope='module')
def graph():
    grimp = pytest.importorskip('grimp')
    return grimp.build_graph('flow_anomaly_ros')


def test_folders_import_only_what_is_below_them():
    pytest.importorskip('importlinter')
    run = subprocess.run(
        [sys.executable, '-c', 'from importlinter.cli import lint_imports_command as c; c()'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_no_modules_import_each_other_in_a_circle(graph):
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    # A package's own __init__ imports its modules; what a module imports is what it names.
    order: list[str] = []
    remaining = {module: set(needed) for module, needed in imports.items()}
    while ready := [module for module, needed in remaining.items() if not needed - set(order)]:
        order += ready
        for module in ready:
            del remaining[module]
    assert not remaining, f'in a circle: {sorted(remaining)}'
