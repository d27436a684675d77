# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""From images of good parts to a calibrated detector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
import re
import time

from flow_anomaly_ros import distributed
from flow_anomaly_ros.detectors.base import Detector, FitReport, no_progress, Progress
from flow_anomaly_ros.detectors.registry import build_config, find_method
from flow_anomaly_ros.runtime.artifact import library_versions, plain_config
from flow_anomaly_ros.runtime.calibration import image_digest, score_images, stored
from flow_anomaly_ros.runtime.device import select_device
from flow_anomaly_ros.runtime.manifest import input_size_of, Manifest
from flow_anomaly_ros.runtime.preprocess import to_tensor
from flow_anomaly_ros.runtime.tiling import require_tile, tiled, untiled
from flow_anomaly_ros.scoring.calibration import (
    calibrate,
    CalibrationScores,
    merge,
    require_rate,
)
import numpy as np
import torch
from torch import Tensor

# Up to this many images, each is held out once in one of FOLDS trainings and the detector is then
# trained on all of them; with more, a share is held out for good.
FEW_IMAGES = 100
FOLDS = 3
# With fewer images than this thresholds are hardly more than a guess, and it is told.
TELLING_IMAGES = 4
# Begins the names of the stages of a fold.
FOLD_PREFIX = 'calibration {}/{} '
HELD_OUT_SHARE = 0.2
LEAST_HELD_OUT = 40
# Weights of the processes of a training are as equal as rounding lets them be.
LARGEST_DIFFERENCE = 1e-2


@dataclass(frozen=True)
class Training:
    """What `train` returns.

    Attributes:
        detector: Trained detector on the CPU.
        manifest: Its manifest, with calibrated thresholds.
        report: Losses of the detector's own training (not of those for calibration).
    """

    detector: Detector
    manifest: Manifest
    report: FitReport


def train(
    method: str,
    images: Sequence[np.ndarray],
    options: dict[str, object] | None = None,
    weights: Path | None = None,
    seed: int = 0,
    false_positive_rate: float = 0.01,
    shorter_side: int = 256,
    tile: int | None = None,
    device: str = 'auto',
    progress: Progress = no_progress,
) -> Training:
    """Train and calibrate a detector.

    Thresholds come from images that the detector which scores them has not seen: the scores of
    its own training images are too low to be a threshold.

    Args:
        method: Name of the detection method.
        images: Images of good parts, HxW or HxWx3 RGB, uint8 or uint16, all alike.
        options: Fields of the method's configuration; `channels` is taken from the images.
        weights: Pretrained weights, if the method takes any; None downloads them.
        seed: Makes the result repeatable.
        false_positive_rate: Share of good parts that may be rejected.
        shorter_side: Shorter side in px that images are reduced to.
        tile: Side in px of the tiles that these are cut into, see `runtime.tiling`; None: they are
            seen whole.
        device: Device name, see `select_device`.
        progress: Called after every step; the stage names say which fold is trained.

    Raises:
        ValueError: Bad options, weights or device; one line.
        Cancelled: If the progress callback asked to stop.
    """
    require_rate(false_positive_rate)
    started = time.perf_counter()
    height, width = images[0].shape[:2]
    options = options or {}
    if 'channels' in options:
        msg = 'channels cannot be set: the images decide, 1 if they are grey and 3 if in colour'
        raise ValueError(msg)
    channels = 1 if images[0].ndim == 2 else 3
    config = build_config(method, {**options, 'channels': channels})
    size = input_size_of((height, width), shorter_side)
    if tile is not None:
        require_tile(tile, size)
    target = select_device(device)
    digests = [image_digest(image) for image in images]
    given = (config, size, seed, false_positive_rate, digests, library_versions())
    distributed.require_same(str(given), 'images, options, seed and versions of libraries')
    batch = torch.cat([to_tensor(image, channels, size, target) for image in images])

    def fit(chosen: Tensor, prefix: str) -> tuple[Detector, FitReport]:
        with torch.random.fork_rng(devices=[target] if target.type == 'cuda' else []):
            torch.manual_seed(seed)
            untrained = find_method(method)(config)
            untrained.load_pretrained(weights)
            detector = tiled(untrained, tile).to(target)
            report = detector.fit(
                batch[chosen],
                seed,
                lambda stage, step, steps, loss: progress(prefix + stage, step, steps, loss),
            )
            if distributed.agree(detector) > LARGEST_DIFFERENCE:
                msg = 'the processes have learned different weights: run them on machines alike'
                raise ValueError(msg)
        return detector.eval(), report

    fitted, report, scores = _fit_and_hold_out(fit, batch, seed)
    detector = untiled(fitted)
    if len(images) < TELLING_IMAGES:
        report.notes.append(
            f'{len(images)} of {TELLING_IMAGES} images that are needed at least: fewer say little '
            'about how good parts differ; the thresholds may reject nothing or too much'
        )
    manifest = Manifest(
        method=method,
        config=plain_config(detector),
        input_size=size,
        image_size=(height, width),
        thresholds=calibrate(scores, false_positive_rate),
        calibration=stored(scores, false_positive_rate),
        training={
            'images': len(images),
            'digests': digests,
            'seed': seed,
            'seconds': round(time.perf_counter() - started, 1),
        },
        libraries=library_versions(),
        tile=tile,
    )
    return Training(detector.cpu(), manifest, report)


def fold_of(stage: str) -> tuple[int, int] | None:
    """Return which of how many folds a stage belongs to; None outside of them."""
    found = re.match(FOLD_PREFIX.format(r'(\d+)', r'(\d+)'), stage)
    return (int(found[1]), int(found[2])) if found else None


def _fit_and_hold_out(
    fit: Callable[[Tensor, str], tuple[Detector, FitReport]], batch: Tensor, seed: int
) -> tuple[Detector, FitReport, CalibrationScores]:
    count = len(batch)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    if count > FEW_IMAGES:
        held_out = order[: max(LEAST_HELD_OUT, round(HELD_OUT_SHARE * count))]
        detector, report = fit(order[len(held_out) :].sort().values, '')
        return detector, report, score_images(detector, batch[held_out])
    # One image cannot be held out from itself: its own score is all there is.
    folds = min(FOLDS, count) if count > 1 else 0
    parts = []
    for fold in range(folds):
        chosen = torch.cat([order[i::folds] for i in range(folds) if i != fold]).sort().values
        detector, _ = fit(chosen, FOLD_PREFIX.format(fold + 1, folds))
        parts.append(score_images(detector, batch[order[fold::folds]]))
    detector, report = fit(torch.arange(count), '')
    return detector, report, merge(parts or [score_images(detector, batch)])
