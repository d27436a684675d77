# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Exports a model to another runtime."""

import argparse
from pathlib import Path
import time

from flow_anomaly_ros.data.output_files import require_writable
from flow_anomaly_ros.runtime.artifact import load_artifact
from flow_anomaly_ros.runtime.export import export
from flow_anomaly_ros.runtime.export_formats import EXPORT_SUFFIXES


def run(arguments: argparse.Namespace) -> int:
    """Write the model, and print how much its scores differ from the original's.

    Raises:
        ValueError: Bad model, output or backend; nothing is written.
    """
    output: Path = arguments.output
    if arguments.backend not in EXPORT_SUFFIXES:
        msg = f'unknown backend {arguments.backend!r}: choose one of {", ".join(EXPORT_SUFFIXES)}'
        raise ValueError(msg)
    require_writable(output)
    started = time.perf_counter()
    detector, manifest = load_artifact(arguments.model)
    difference = export(output, detector, manifest, arguments.backend)
    print(
        f'wrote {output} in {time.perf_counter() - started:.0f} s; maximum relative score '
        f'difference from {arguments.model}: {difference:.1g}'
    )
    return 0
