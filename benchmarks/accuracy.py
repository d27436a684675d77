#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of our detectors beside anomalib's, on the same images, size and backbone weights.

Every run (method, set, number of good images, seed) is a file in the output folder. A run whose
file exists is skipped, so an interrupted benchmark resumes. With --ablation a method is compared
with itself, by the rows of its source's tables. See README.md.
"""

import argparse
from collections.abc import Sequence
import dataclasses
from dataclasses import dataclass
import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

from ablations import ABLATIONS
import cv2
from flow_anomaly_ros.data.atomic import atomic_write
from flow_anomaly_ros.data.folder import ImageFolder, load_good_images, load_mask, read_folder
from flow_anomaly_ros.data.images import read_image, write_image
from flow_anomaly_ros.detectors.registry import METHODS
from flow_anomaly_ros.runtime.engine import Criteria, Engine
from flow_anomaly_ros.runtime.evaluation import evaluate
from flow_anomaly_ros.runtime.inspection_pictures import explanation
from flow_anomaly_ros.runtime.manifest import PartClass
from flow_anomaly_ros.runtime.preprocess import to_tensor
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
from flow_anomaly_ros.scoring.calibration import upper_limit
from flow_anomaly_ros.scoring.ranking import FPRS, rank
from multiclass import ablated_engine, joint_engine
import numpy as np
from table import table
import torch
from trivial import to_grey, TRIVIAL

PEERS = ('patchcore', 'padim', 'fastflow')
SIZE = 256
# That of the peers.
BACKBONE = 'mobilenet_v2'


@dataclass(frozen=True)
class BenchmarkRun:
    """One training and evaluation."""

    method: str
    data: Path
    images: str
    seed: int
    backbone: str = BACKBONE
    # Row of the method's ablation; empty: its defaults.
    row: str = ''

    @property
    def name(self) -> str:
        """File name of the result."""
        of = self.row or self.method
        of += '' if self.backbone == BACKBONE else f'_{self.backbone.replace("/", "_")}'
        return f'{self.data.name}-{self.images}-{of}-{self.seed}.json'

    @property
    def options(self) -> dict[str, object]:
        """Options of the method."""
        changed = ABLATIONS[self.method][self.row] if self.row else {}
        return {'backbone': self.backbone, **changed}

    @property
    def max_images(self) -> int | None:
        """How many good images are used; None for all."""
        return None if self.images == 'all' else int(self.images)


def main() -> int:
    """Run what is missing, then write the table."""
    arguments = _parse()
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    runs = [
        BenchmarkRun(method, data, images, seed, arguments.backbone, row)
        for seed in arguments.seeds
        for images in arguments.images
        for row in arguments.rows
        for data in arguments.data
        for method in arguments.methods
        if method not in PEERS or arguments.peers_python
    ]
    for run in runs:
        path = arguments.output / run.name
        if path.exists():
            continue
        if run.method in TRIVIAL:
            result = _run_trivial(run)
        else:
            result = _run_peer(run, arguments) if run.method in PEERS else _run_own(run, arguments)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(result))
        print(run.name, {k: v for k, v in result.items() if k not in ('note', 'rows')}, flush=True)
    text = table(arguments.output, ABLATIONS.get(arguments.ablation, (*METHODS, *TRIVIAL)))
    (arguments.output / 'table.md').write_text(text)
    print(text)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, action='append', required=True)
    parser.add_argument(
        '--backbone', default=BACKBONE, help='of our detectors (default: %(default)s)'
    )
    parser.add_argument('--weights', type=Path, help='weights file of the backbone')
    parser.add_argument(
        '--peers-python',
        help='Python of an environment with anomalib (default: its models are skipped)',
    )
    parser.add_argument(
        '--images',
        action='append',
        help='number of good training images, 10 or all (default: both)',
    )
    parser.add_argument('--methods', nargs='+', default=[*METHODS, *TRIVIAL, *PEERS])
    parser.add_argument(
        '--ablation', choices=ABLATIONS, help='run the ablation of this method instead'
    )
    parser.add_argument('--rows', nargs='+', help='rows of the ablation (default: all)')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--output', type=Path)
    parser.add_argument(
        '--models', type=Path, help='folder of models of all sets (default: that of --output)'
    )
    arguments = parser.parse_args()
    if arguments.peers_python and (arguments.backbone != BACKBONE or not arguments.weights):
        parser.error(f'--peers-python needs --weights of {BACKBONE} and no other --backbone')
    arguments.images = arguments.images or ['10', 'all']
    arguments.output = arguments.output or Path('benchmarks/output', arguments.ablation or '')
    if arguments.ablation:
        arguments.methods = [arguments.ablation]
        arguments.rows = arguments.rows or [*ABLATIONS[arguments.ablation]]
    else:
        arguments.rows = ['']
    return arguments


def _run_own(run: BenchmarkRun, arguments: argparse.Namespace) -> dict[str, object]:
    """Train and evaluate one of our methods as a user does."""
    folder = read_folder(run.data)
    part_class = ''
    if METHODS[run.method].is_multiclass:
        engine, part_class = _joint_engine(run, arguments), run.data.name
    else:
        images = load_good_images(folder, run.max_images, run.seed).images
        training = train(
            TrainingRequest(
                method=run.method,
                options=run.options,
                weights=arguments.weights,
                seed=run.seed,
                image_size=SIZE,
                device='cpu',
            ),
            TrainingDataset(images),
        )
        engine = Engine.of(training.detector, training.manifest, 'cpu')
    evaluation = evaluate(engine, folder.test, part_class=part_class)
    metrics = evaluation.metrics()
    if run.seed == arguments.seeds[0] and not run.row:
        _write_pictures(run, folder, engine, arguments.output, part_class)
    scores = np.array([row.score for row in evaluation.rows])
    labels = np.array([row.is_defect for row in evaluation.rows])
    index = engine.manifest.class_index(part_class) or 0
    return {
        **dataclasses.asdict(evaluation.ranking),
        'calibrated': _calibrated(engine.manifest.classes[index], scores, labels),
        **{key: metrics[key] for key in ('precision', 'recall', 'false_positive_rate')},
        'confusion': metrics['confusion'],
        'held_out': engine.manifest.classes[index].calibration_scores,
        'right': metrics['verdicts_right'],
        'tested': metrics['images'],
        'seconds': engine.manifest.training['seconds'],
        'milliseconds': metrics['latency_ms_p50'],
        'note': '',
        'rows': _rows(scores, labels),
    }


def _calibrated(part_class: PartClass, scores: np.ndarray, labels: np.ndarray) -> list[list[float]]:
    """Recall and false-positive rate at the limits that calibration sets for each of `FPRS`."""
    held_out = np.array(part_class.calibration_scores)
    calibration: dict[str, Any] = part_class.calibration
    limits = [upper_limit(held_out, fpr, calibration['spread']) for fpr in FPRS]
    return [
        [float((scores[labels] >= limit).mean()), float((scores[~labels] >= limit).mean())]
        for limit in limits
    ]


def _rows(scores: np.ndarray, labels: np.ndarray) -> list[list[float]]:
    """Image scores and whether the images show defects, for confidence intervals."""
    return [
        [float(f'{score:.6g}'), int(label)]
        for score, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]


def _run_trivial(run: BenchmarkRun) -> dict[str, object]:
    folder = read_folder(run.data)
    good = load_good_images(folder, run.max_images, run.seed).images
    test = [read_image(sample.path) for sample in folder.test]
    maps, scores = TRIVIAL[run.method](to_grey(test, SIZE), to_grey(good, SIZE))
    return _ranked(folder, [*maps], scores)


def _ranked(folder: ImageFolder, maps: Sequence[np.ndarray], scores: np.ndarray) -> dict[str, Any]:
    """Metrics of what was not inspected by our own engine."""
    masks = [load_mask(sample, (SIZE, SIZE)) for sample in folder.test]
    chosen = [score_map for score_map, mask in zip(maps, masks, strict=True) if mask is not None]
    truth = [mask for mask in masks if mask is not None]
    labels = np.array([sample.is_defect for sample in folder.test])
    ranking = rank(scores, labels, chosen, truth)
    return dataclasses.asdict(ranking) | {'rows': _rows(scores, labels)}


def _joint_engine(run: BenchmarkRun, arguments: argparse.Namespace) -> Engine:
    """One model of all sets, see `multiclass`."""
    given = (
        arguments.models or arguments.output,
        run.method,
        arguments.data,
        run.max_images,
        run.seed,
    )
    engine = joint_engine(
        *given,
        {'backbone': run.backbone},
        arguments.weights,
        SIZE,
    )
    if not run.row:
        return engine
    row = ABLATIONS[run.method][run.row]
    return ablated_engine(*given, row, arguments.weights)


def _write_pictures(
    run: BenchmarkRun, folder: ImageFolder, engine: Engine, output: Path, part_class: str
) -> None:
    """Explain the first image of every kind of defect."""
    for label in sorted({sample.label for sample in folder.test}):
        sample = next(s for s in folder.test if s.label == label)
        image = read_image(sample.path)
        truth = load_mask(sample, image.shape[:2])
        name = f'{run.data.name}-{run.images}-{run.method}-{label}.png'
        criteria = Criteria(engine.manifest.thresholds, part_class=part_class)
        inspection = engine.inspect([image], [criteria])[0]
        write_image(output / name, explanation(engine, image, inspection, truth))


def _run_peer(run: BenchmarkRun, arguments: argparse.Namespace) -> dict[str, object]:
    """Give anomalib the same images and compute the metrics from what it returns."""
    folder = read_folder(run.data)
    good = load_good_images(folder, run.max_images, run.seed).images
    test = [read_image(sample.path) for sample in folder.test]
    with tempfile.TemporaryDirectory() as scratch:
        given, result = Path(scratch, 'images.npz'), Path(scratch, 'result.npz')
        np.savez(given, train=_resized(good), test=_resized(test))
        command = [
            *(arguments.peers_python, str(Path(__file__).with_name('peers.py'))),
            *(run.method, str(given), str(result)),
            *('--weights', str(arguments.weights)),
            *('--seed', str(run.seed), '--threads', str(arguments.threads)),
        ]
        subprocess.run(command, check=True)
        with np.load(result) as data:
            maps, scores = data['score_maps'].astype(np.float32), data['image_scores']
            seconds, milliseconds = float(data['seconds']), float(data['milliseconds'])
            note = str(data['note'])
    return {
        **_ranked(folder, maps, scores),
        'seconds': round(seconds, 1),
        'milliseconds': milliseconds,
        'note': note,
    }


def _resized(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images as our own detectors see them, Nx3xSIZExSIZE float16 in [0, 1]."""
    device = torch.device('cpu')
    return np.concatenate(
        [to_tensor(image, 3, (SIZE, SIZE), device).numpy().astype(np.float16) for image in images]
    )


if __name__ == '__main__':
    cv2.setNumThreads(1)
    sys.exit(main())
