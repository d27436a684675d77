# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Entry points of the nodes, which an interrupt ends quietly even while they import.

torch and rclpy take seconds to import. Until then nothing needs to be cleaned up.
"""

from collections.abc import Callable
import importlib
import os
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def start(node: str, function: str = 'main', interrupted: int = 0) -> None:
    """Import a node and run it.

    Args:
        node: Name of its module.
        function: Name of the function that runs it.
        interrupted: Exit status after a signal during the import.
    """
    for number in SIGNALS:
        # Not an exception: an imported module may catch it.
        signal.signal(number, lambda *_: os._exit(interrupted))
    # `run_node` replaces the handlers.
    run: Callable[[], None] = getattr(
        importlib.import_module(f'flow_anomaly_ros.nodes.{node}'), function
    )
    run()


def detector() -> None:
    """Run the detector node."""
    start('detector')


def trainer() -> None:
    """Run the trainer node."""
    start('trainer')


def rejecter() -> None:
    """Run the rejecter node."""
    start('rejecter')


def image_source() -> None:
    """Run the image source node."""
    start('image_source')


def inspection_report() -> None:
    """Run the inspection report node."""
    start('inspection_report', interrupted=130)


def listener() -> None:
    """Run the inspection report node under its former name."""
    start('inspection_report', 'listener_main', interrupted=130)


if __name__ == '__main__':
    # `python -m flow_anomaly_ros.nodes.executables NODE ARGUMENT ...`, where nothing is installed.
    globals()[sys.argv.pop(1)]()
