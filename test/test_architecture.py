# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Imports run one way: .importlinter says which folder may import which."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = (
    'benchmark',
    'calibrate',
    'evaluate',
    'export',
    'extract',
    'methods',
    'predict',
    'train',
)
# Functions that import from the package instead of the top of their file, and why.
LATE_IMPORTS = {
    # --help must not wait seconds for torch.
    ('cli.py', '_processes', 'flow_anomaly_ros.data_parallel'),
    *((f'commands/{name}.py', 'run', 'flow_anomaly_ros.commands.actions') for name in COMMANDS),
    # The command works without ROS 2.
    ('commands/actions/benchmark.py', '_publisher', 'flow_anomaly_ros.nodes.serialization'),
}


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


def test_only_listed_functions_import_from_the_package():
    package = ROOT / 'flow_anomaly_ros'
    found = {
        (path.relative_to(package).as_posix(), function.name, module)
        for path in package.rglob('*.py')
        for function in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in ast.walk(function)
        for module in _imported(statement)
        if module.startswith('flow_anomaly_ros')
    }
    assert found == LATE_IMPORTS


def _imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ''] if isinstance(node, ast.ImportFrom) else []
