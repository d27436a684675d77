#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Speed of our detectors beside anomalib's: same images, size, backbone weights and threads.

All are timed in turn in one run. See README.md.
"""

import argparse
from collections.abc import Callable, Sequence
import json
from pathlib import Path
import sys
import tempfile

from backbone_only import backbone_only
from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.layers.backbone import IMAGENET_MEAN, IMAGENET_STD
from flow_anomaly_ros.runtime.artifact import load_artifact, save_artifact
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.export import export
from flow_anomaly_ros.runtime.export_formats import EXPORT_SUFFIXES
from flow_anomaly_ros.runtime.preprocess import to_tensor
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import numpy as np
from on_backends import BACKENDS
from timing_worker import serve, time_in_turn, Worker
import torch

PEERS = ('fastflow', 'patchcore', 'padim', 'efficientad')
# Ending of a method that computes with whole numbers.
INT8 = '_int8'
# Training steps say nothing about speed.
FEW_STEPS: dict[str, dict[str, object]] = {
    'restoration': {},
    'cainnflow': {'steps': 2},
    'nf_bmr': {'flow_steps': 2, 'mapping_steps': 2},
    'feature_fusion': {'steps': 2},
}
REFERENCE = 'fastflow, PyTorch'


def main() -> int:
    """Time everything, print a table, write the figures."""
    arguments = _parse()
    limit_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        models = arguments.models or Path(scratch)
        models.mkdir(exist_ok=True)
        _prepare(arguments, models)
        if arguments.worker:
            serve(_functions(arguments, models))
            return 0
        own = Worker([sys.executable, *sys.argv, '--worker', '--models', str(models)])
        workers = [own]
        if arguments.peers_python:
            workers.append(Worker(_peers_command(arguments, models)))
        found = time_in_turn(workers, arguments.rounds, arguments.runs)
        for worker in workers:
            worker.close()
    figures = {
        name: {
            'median': float(np.median(times)),
            'p95': float(np.quantile(times, 0.95)),
            'least': min(times),
        }
        for name, times in found.items()
    }
    print(table(figures))
    if arguments.json:
        about = {'backbone': arguments.backbone, 'size': arguments.size, 'batch': arguments.batch}
        about['threads'] = arguments.threads
        arguments.json.write_text(json.dumps({**about, 'milliseconds': figures}, indent=2) + '\n')
    return 0


def table(figures: dict[str, dict[str, float]]) -> str:
    """Figures as Markdown, each beside FastFlow in PyTorch."""
    lines = [f'| ms | median | p95 | relative to {REFERENCE} |', '|---|---|---|---|']
    for name, times in figures.items():
        share = times['median'] / figures[REFERENCE]['median'] if REFERENCE in figures else np.nan
        lines.append(f'| {name} | {times["median"]:.1f} | {times["p95"]:.1f} | {share:.2f} |')
    return '\n'.join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--weights', type=Path, required=True, help='weights file of the backbone')
    parser.add_argument('--backbone', default='mobilenet_v2')
    parser.add_argument(
        '--peers-python',
        help='Python of an environment with anomalib (default: its models are skipped)',
    )
    parser.add_argument('--peers', nargs='+', default=[*PEERS])
    parser.add_argument('--methods', nargs='+', default=[*FEW_STEPS, f'restoration{INT8}'])
    parser.add_argument('--size', type=int, default=256)
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--runs', type=int, default=10, help='of each in a round')
    parser.add_argument(
        '--models', type=Path, help='folder for the trained models, which are reused'
    )
    parser.add_argument('--json', type=Path)
    parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepare(arguments: argparse.Namespace, models: Path) -> None:
    """Train and export what is not there yet, and write the images for the peers."""
    images = load_good_images(read_folder(arguments.data), None, 0).images
    batch = torch.cat(
        [
            to_tensor(image, 3, (arguments.size, arguments.size), torch.device('cpu'))
            for image in images[: arguments.batch]
        ]
    )
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    np.save(models / 'images.npy', ((batch - mean) / std).numpy())
    for method in arguments.methods:
        path = models / f'{method}.safetensors'
        if not path.is_file():
            name, int8 = method.removesuffix(INT8), method.endswith(INT8)
            options = {'backbone': arguments.backbone, 'int8': int8, **FEW_STEPS[name]}
            training = train(
                TrainingRequest(
                    method=name,
                    options=options,
                    weights=arguments.weights,
                    image_size=arguments.size,
                    device='cpu',
                ),
                TrainingDataset(images),
            )
            save_artifact(path, training.detector, training.manifest)
        for backend, suffix in EXPORT_SUFFIXES.items():
            if not path.with_suffix(suffix).is_file():
                export(path.with_suffix(suffix), *load_artifact(path), backend)


def _functions(arguments: argparse.Namespace, models: Path) -> dict[str, Callable[[], object]]:
    images = load_good_images(read_folder(arguments.data), None, 0).images[: arguments.batch]
    functions: dict[str, Callable[[], object]] = {}
    for method in arguments.methods:
        for name, suffix in BACKENDS.items():
            functions[f'{method}, {name}'] = _detection(models / f'{method}{suffix}', images)
    name = 'OpenVINO, bfloat16'
    functions[f'restoration, {name}'] = _detection(
        models / 'restoration.xml', images, precision='bfloat16'
    )
    pixels = torch.from_numpy(np.load(models / 'images.npy'))
    functions |= backbone_only(
        arguments.backbone, arguments.weights, pixels, models, arguments.threads
    )
    return functions


def _detection(
    path: Path, images: Sequence[np.ndarray], precision: str = 'float32'
) -> Callable[[], object]:
    backend = Engine.load(path, 'cpu', precision).backend
    batch = backend.prepare(images)
    return lambda: backend.detect(batch, [None] * len(images))


def _peers_command(arguments: argparse.Namespace, models: Path) -> list[str]:
    return [
        *(arguments.peers_python, str(Path(__file__).with_name('speed_peers.py'))),
        *('--backbone', arguments.backbone, '--weights', str(arguments.weights)),
        *('--images', str(models / 'images.npy'), '--threads', str(arguments.threads)),
        *('--models', *arguments.peers),
    ]


if __name__ == '__main__':
    sys.exit(main())
