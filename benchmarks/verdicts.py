#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of good and defective parts at the thresholds that a training calibrates.

Good parts are counted apart: training images that were not used, which vary as those that were, and
test images, which may have been taken another day. A Kolmogorov-Smirnov test tells whether both
score alike. Every run (set, seed) is a file in the output folder, and a run whose file exists is
skipped.
"""

import argparse
from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from flow_anomaly_ros.data.atomic import atomic_write
from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.data.images import read_image
from flow_anomaly_ros.data.sampling import evenly_spaced_indices
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
from flow_anomaly_ros.scoring.calibration import rate_interval
from flow_anomaly_ros.scoring.thresholds import Verdict
import numpy as np
from scipy.stats import ks_2samp
import torch

# Unused training images that are inspected.
MAX_UNUSED = 100
# Sets whose test images score unlike their training images in this share of cases by chance.
SHIFT_LEVEL = 0.05
GROUPS = 'unused', 'good', 'defective'
Run = dict[str, Any]


def main() -> None:
    """Train and inspect, or skip what is there, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, nargs='+', required=True, help='in MVTec layout')
    parser.add_argument('--images', type=int, default=10, help='good images to train on')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--output', type=Path, default=Path('benchmarks/output/verdicts'))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for data in arguments.data:
            path = arguments.output / f'{data.name}-{arguments.images}-{seed}.json'
            if not path.exists():
                run = inspect_set(data, arguments.images, seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as temporary:
                    temporary.write_text(json.dumps(run) + '\n')
                print(path, flush=True)
    text = table(arguments.output, arguments.images)
    (arguments.output / 'table.md').write_text(text + '\n')
    print(text)


def inspect_set(data: Path, images: int, seed: int) -> Run:
    """Train on some good images of a set, and count the verdicts of all others."""
    folder = read_folder(data)
    good = load_good_images(folder, images, seed)
    # Pictures of restored images are not looked at.
    request = TrainingRequest(options={'decoder_steps': 0}, seed=seed, device='cpu')
    training = train(request, TrainingDataset(good.images))
    engine = Engine.of(training.detector, training.manifest, 'cpu', frozen=True)
    used = set(good.paths)
    unused = [path for path in folder.train if path not in used]
    groups = {
        'unused': [unused[i] for i in evenly_spaced_indices(len(unused), MAX_UNUSED)],
        'good': [sample.path for sample in folder.test if not sample.is_defect],
        'defective': [sample.path for sample in folder.test if sample.is_defect],
    }
    run: Run = {'counts': {}, 'scores': {}}
    for name, paths in groups.items():
        found = [engine.inspect([read_image(path)])[0] for path in paths]
        run['scores'][name] = [float(f'{inspection.image_score:.5g}') for inspection in found]
        run['counts'][name] = {
            str(verdict): sum(inspection.verdict == verdict for inspection in found)
            for verdict in Verdict
        }
    calibration: dict[str, Any] = training.manifest.classes[0].calibration
    held_out = np.array(calibration['image_scores'])
    limits = training.manifest.thresholds[0]
    run['scores']['held_out'] = held_out.tolist()
    run['intervals'] = {
        name: rate_interval(held_out, getattr(limits, name), calibration['spread'])
        for name in ('uncertain', 'defect')
    }
    run['seconds'] = training.manifest.training['seconds']
    return run


def table(folder: Path, images: int) -> str:
    """Summarise the runs of a folder: means over seeds, in percent."""
    runs: dict[str, list[Run]] = {}
    for path in sorted(folder.glob(f'*-{images}-*.json')):
        runs.setdefault(path.stem.rsplit('-', 2)[0], []).append(json.loads(path.read_text()))
    heads = [
        'set',
        'seeds',
        'unused training images: defect, not ok',
        'good test images: defect, not ok',
        'alike',
        'defective: ok, uncertain, defect',
    ]
    rows = [
        [
            name,
            str(len(of_set)),
            *_cells({group: _shares(of_set, group) for group in GROUPS}, _alike(of_set)),
        ]
        for name, of_set in runs.items()
    ]
    every = [run for of_set in runs.values() for run in of_set]
    # Sets count alike, however many seeds there are.
    means = {group: np.mean([_shares(x, group) for x in runs.values()], 0) for group in GROUPS}
    rows.append(['**mean**', '', *_cells(means, '')])
    lines = [heads, ['---'] * len(heads), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n\n' + _coverage(every)


def _shares(of_set: Sequence[Run], group: str) -> np.ndarray:
    """Shares of ok, uncertain and defect of a group, means over the runs of a set."""
    counts = np.array([[*run['counts'][group].values()] for run in of_set], float)
    return (counts / counts.sum(1, keepdims=True)).mean(0)


def _alike(of_set: Sequence[Run]) -> str:
    """Count the runs in which unused training images and good test images score alike."""
    alike = [
        ks_2samp(run['scores']['unused'], run['scores']['good']).pvalue >= SHIFT_LEVEL
        for run in of_set
    ]
    return f'{sum(alike)} of {len(alike)}'


def _cells(shares: Mapping[str, np.ndarray], alike: str) -> list[str]:
    unused, good, defective = (100 * shares[group] for group in GROUPS)
    return [
        f'{unused[2]:.1f}, {100 - unused[0]:.1f}',
        f'{good[2]:.1f}, {100 - good[0]:.1f}',
        alike,
        ', '.join(f'{share:.1f}' for share in defective),
    ]


def _coverage(runs: Sequence[Run]) -> str:
    """Say how often the share of unused training images lies in the interval that is promised."""
    held = []
    for run in runs:
        counts = run['counts']['unused']
        count = sum(counts.values())
        for name, above in (
            ('defect', counts['defect']),
            ('uncertain', count - counts['ok']),
        ):
            _, low, high = run['intervals'][name]
            # Half an image: the share of some images is not that of all.
            held.append(low - 0.5 / count <= above / count <= high + 0.5 / count)
    return f'{np.mean(held):.0%} of {len(held)} intervals of 90 % hold the share.'


if __name__ == '__main__':
    main()
