# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Profiles inspections, stage by stage."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
import tempfile
import time

from flow_anomaly_ros.commands.actions.predict import image_paths
from flow_anomaly_ros.data.generated import generate_part, MIN_SIZE_PX
from flow_anomaly_ros.data.images import read_image, write_image
from flow_anomaly_ros.data.output_files import require_writable, write_json
from flow_anomaly_ros.runtime.benchmark import memory_mib, time_inspection
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.engine import Engine, Inspection
from flow_anomaly_ros.runtime.manifest import Manifest
import numpy as np
import torch

ROUNDS = 5

Publish = Callable[[np.ndarray, Inspection], object]


class _Candidate:
    """A model at a batch size, and its measurements."""

    def __init__(self, path: Path, engine: Engine, images: list[Path]) -> None:
        self.path = path
        self.engine = engine
        self.images = images
        # Growth of this process in MiB, from before the engine was loaded to its first run.
        self.memory = 0.0
        self.stages: dict[str, list[float]] = {}

    def run(self, publish: Publish | None) -> None:
        """Inspect the batch once, from image files to messages."""
        started = time.perf_counter()
        images = [read_image(path) for path in self.images]
        decode = 1e3 * (time.perf_counter() - started)
        inspections, inspection_stages = time_inspection(self.engine, images)
        stages = {'decode': decode, **inspection_stages}
        total = stages.pop('total') + stages['decode']
        if publish:
            started = time.perf_counter()
            for image, inspection in zip(images, inspections, strict=True):
                publish(image, inspection)
            stages['publish'] = 1e3 * (time.perf_counter() - started)
            total += stages['publish']
        for stage, value in {**stages, 'total': total}.items():
            self.stages.setdefault(stage, []).append(value)


def run(arguments: argparse.Namespace) -> int:
    """Measure models in turn and print a table.

    Raises:
        ValueError: Bad model, images or output.
    """
    if arguments.json:
        require_writable(arguments.json)
    limit_threads(arguments.threads)
    publish = _publisher()
    with tempfile.TemporaryDirectory() as folder:
        candidates = _candidates(arguments, Path(folder), publish)
        _measure(candidates, arguments.runs, publish)
    for candidate in candidates:
        print(_table(candidate), end='\n\n')
    if publish is None:
        print('publish was not timed: rclpy or vision_msgs cannot be imported; source ROS 2 first')
    if arguments.json:
        write_json(arguments.json, [_to_dict(candidate) for candidate in candidates])
    return 0


def _candidates(
    arguments: argparse.Namespace, folder: Path, publish: Publish | None
) -> list[_Candidate]:
    paths = list(image_paths(arguments.images)) if arguments.images else []
    candidates = []
    for model in arguments.models:
        before = memory_mib()
        engine = Engine.load(model, arguments.device, arguments.precision, arguments.compile)
        if not paths:
            paths = [_generated(folder, engine.manifest)]
        for batch in arguments.batch or [1]:
            images = [paths[index % len(paths)] for index in range(batch)]
            candidate = _Candidate(model, engine, images)
            candidate.run(publish)
            candidate.memory = memory_mib() - before
            candidates.append(candidate)
    return candidates


def _measure(candidates: Sequence[_Candidate], runs: int, publish: Publish | None) -> None:
    """Run all in turn, so that noise of the machine affects all alike."""
    for candidate in candidates:
        candidate.stages.clear()
    for _ in range(ROUNDS):
        for candidate in candidates:
            for _ in range(-(-runs // ROUNDS)):
                candidate.run(publish)


def _publisher() -> Publish | None:
    try:
        from flow_anomaly_ros.nodes.serialization import serialize_results
    except ImportError:
        return None
    return serialize_results


def _generated(folder: Path, manifest: Manifest) -> Path:
    """Write a generated part of the size of the training images."""
    height, width = manifest.image_size
    part, _ = generate_part(0, size=max(MIN_SIZE_PX, height, width))
    path = folder / 'part.jpg'
    write_image(path, part[:height, :width])
    return path


def _table(candidate: _Candidate) -> str:
    height, width = candidate.engine.manifest.input_size
    count = len(candidate.images)
    total = float(np.median(candidate.stages['total']))
    rows = [
        f'{stage:<12} {np.median(values):>9.2f} {np.quantile(values, 0.95):>9.2f} '
        f'{np.median(values) / total:>6.0%}'
        for stage, values in candidate.stages.items()
    ]
    return '\n'.join(
        [
            f'{candidate.path}: {candidate.engine.backend.name}, '
            f'{torch.get_num_threads()} threads, '
            f'{width}x{height} px, {count} image{"s" * (count > 1)} at a time',
            f'{"stage":<12} {"median ms":>9} {"p95 ms":>9} {"share":>6}',
            *rows,
            f'{1e3 * count / total:.1f} images/s, {candidate.memory:.0f} MiB',
        ]
    )


def _to_dict(candidate: _Candidate) -> dict[str, object]:
    count = len(candidate.images)
    return {
        'model': str(candidate.path),
        'backend': candidate.engine.backend.name,
        'threads': torch.get_num_threads(),
        'input_size': list(candidate.engine.manifest.input_size),
        'batch': count,
        'stages_ms': {
            stage: {
                'median': float(np.median(values)),
                'p95': float(np.quantile(values, 0.95)),
            }
            for stage, values in candidate.stages.items()
        },
        'images_per_second': 1e3 * count / float(np.median(candidate.stages['total'])),
        'memory_mib': candidate.memory,
    }
