#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How the cost of an inspection grows with the pixels of an image, and with images at a time.

All are timed in turn in one run. See README.md.
"""

import argparse
from collections.abc import Callable
import functools
import json
from pathlib import Path
import sys
import tempfile
import time

from backbone_only import backbone_only
import cv2
from flow_anomaly_ros.data.folder import load_good_images, read_folder
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
import torch

# As many stored points as with many images, of which one makes a training short; its steps say
# nothing about speed.
OPTIONS = {'augmented_samples': 100, 'flow_steps': 2, 'decoder_steps': 1}
IMAGES = 1


def main() -> int:
    """Train and export a model per size, time them, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--weights', type=Path, required=True, help='weights file of the backbone')
    parser.add_argument('--backbone', default='mobilenet_v2')
    parser.add_argument('--sizes', type=int, nargs='+', default=[256, 512, 1024])
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 2, 4, 8])
    parser.add_argument('--runs', type=int, default=20)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--json', type=Path)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    good = load_good_images(read_folder(arguments.data), IMAGES).images
    with tempfile.TemporaryDirectory() as folder:
        cases: dict[tuple[str, int, int], Callable[[], object]] = {}
        for size in arguments.sizes:
            images = [cv2.resize(image, (size, size)) for image in good]
            # More images at a time at the smallest size only.
            batches = arguments.batches if size == arguments.sizes[0] else [1]
            for name, engine in _engines(Path(folder), images, size, arguments):
                for batch in batches:
                    several = (images * batch)[:batch]
                    cases[name, size, batch] = functools.partial(engine.inspect, several)
            pixels = to_tensor(images[0], 3, (size, size), torch.device('cpu'))
            bare = backbone_only(
                arguments.backbone, arguments.weights, pixels, Path(folder), arguments.threads
            )
            cases |= {(name, size, 1): run for name, run in bare.items()}
        found: dict[tuple[str, int, int], list[float]] = {case: [] for case in cases}
        for _ in range(arguments.runs):
            for case, run in cases.items():
                # After another case caches are cold, which no camera at work leaves them.
                run()
                started = time.perf_counter()
                run()
                found[case].append(1e3 * (time.perf_counter() - started))
    medians = {case: float(np.median(times)) for case, times in found.items()}
    print('| | px | images at a time | ms | ms per image and pixel, relative to the first |')
    print('|---|---|---|---|---|')
    for (name, size, batch), median in medians.items():
        first = medians[name, arguments.sizes[0], 1] / arguments.sizes[0] ** 2
        share = median / batch / size**2 / first
        print(f'| {name} | {size} | {batch} | {median:.1f} | {share:.2f} |')
    if arguments.json:
        rows = [
            {'model': name, 'size': size, 'batch': batch, 'milliseconds': median}
            for (name, size, batch), median in medians.items()
        ]
        arguments.json.write_text(json.dumps(rows, indent=2) + '\n')
    return 0


def _engines(
    folder: Path, images: list[np.ndarray], size: int, arguments: argparse.Namespace
) -> list[tuple[str, Engine]]:
    path = folder / f'{size}.safetensors'
    options = {'backbone': arguments.backbone, **OPTIONS}
    training = train(
        TrainingRequest(
            method='restoration',
            options=options,
            weights=arguments.weights,
            image_size=size,
            device='cpu',
        ),
        TrainingDataset(images),
    )
    save_artifact(path, training.detector, training.manifest)
    for backend, suffix in EXPORT_SUFFIXES.items():
        export(path.with_suffix(suffix), *load_artifact(path), backend)
    return [
        (f'restoration, {name}', Engine.load(path.with_suffix(suffix), 'cpu'))
        for name, suffix in BACKENDS.items()
    ]


if __name__ == '__main__':
    sys.exit(main())
