# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""From images of good parts to a calibrated detector."""

from collections.abc import Callable, Sequence
import dataclasses
from dataclasses import dataclass
import hashlib
import math
from pathlib import Path
import re
import time
from typing import NamedTuple

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.detectors.base import (
    Detector,
    FitReport,
    MulticlassDetector,
    no_progress,
    Progress,
)
from flow_anomaly_ros.detectors.checkpoints import NULL_CHECKPOINTS
from flow_anomaly_ros.detectors.registry import build_config, find_method, METHODS
from flow_anomaly_ros.runtime.artifact import library_versions, plain_config
from flow_anomaly_ros.runtime.calibration import image_digest, score_images, stored
from flow_anomaly_ros.runtime.checkpoints import FolderCheckpointStore
from flow_anomaly_ros.runtime.device import select_device
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.golden_sample import to_text
from flow_anomaly_ros.runtime.manifest import input_size_of, Manifest, PartClass
from flow_anomaly_ros.runtime.preprocess import max_value_of, size_of, to_rgb, to_tensor
from flow_anomaly_ros.runtime.tiling import require_tile, tiled, untiled
from flow_anomaly_ros.scoring.calibration import (
    calibrate,
    CalibrationScores,
    merge,
    outliers,
    require_rate,
)
from flow_anomaly_ros.scoring.thresholds import Verdict
import numpy as np
import torch
from torch import Tensor

# Up to this many images, each is held out once in one of FOLDS trainings and the detector is then
# trained on all of them; with more, a share is held out for good.
MAX_FOLD_IMAGES = 100
FOLDS = 5
# With fewer images than this thresholds are hardly more than a guess, and it is told.
MIN_IMAGES = 4
# Begins the names of the stages of a fold.
FOLD_PREFIX = 'calibration {}/{} '
HELD_OUT_SHARE = 0.2
# Images that the good part in a model file is chosen from, and px that it has at most: what a model
# file says of itself may take 100 MB.
GOLDEN_CANDIDATES = 4
MAX_GOLDEN_PIXELS = 2**22
MIN_HELD_OUT = 40
# Options that are not the user's, and who decides them.
DECIDED = {
    'channels': 'the images decide, 1 if they are grey and 3 if in colour',
    'classes': 'the folders of images decide, each is a class',
}
# Weights of the processes of a training are as equal as rounding lets them be.
MAX_WEIGHT_DIFFERENCE = 1e-2


@dataclass(frozen=True)
class Training:
    """What `train` returns.

    Attributes:
        detector: Trained detector on the CPU.
        manifest: Its manifest, with calibrated thresholds.
        report: Losses of the detector's own training (not of those for calibration).
        outliers: Images that differ from the others as a defective part does: index and score,
            held out, of each; the worst first.
        warnings: What else speaks against the thresholds, a line each.
        checkpoints: Those it kept; None without a folder for them.
    """

    detector: Detector
    manifest: Manifest
    report: FitReport
    outliers: dict[int, float]
    warnings: list[str]
    checkpoints: FolderCheckpointStore | None = None


class _Seen(NamedTuple):
    """What is asked of every image before any is resized."""

    size: tuple[int, int]
    is_grey: bool
    max_value: int
    digest: str

    @classmethod
    def of(cls, image: np.ndarray) -> '_Seen':
        return cls(size_of(image), image.ndim == 2, max_value_of(image), image_digest(image))


@dataclass(frozen=True)
class _HeldOut:
    """Scores of images of a class, in the order of the indices of these."""

    images: Tensor
    scores: CalibrationScores

    @classmethod
    def merged(cls, parts: Sequence['_HeldOut']) -> '_HeldOut':
        """Put those of several detectors together."""
        return cls(
            torch.cat([part.images for part in parts]), merge([part.scores for part in parts])
        )


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
    classes: Sequence[str] = (),
    checkpoints: Path | None = None,
) -> Training:
    """Train and calibrate a detector.

    Thresholds come from images that the detector which scores them has not seen: the scores of
    its own training images are too low to be a threshold.

    Args:
        method: Name of the detection method.
        images: Images of good parts, HxW or HxWx3 RGB, uint8 or uint16; those of a class are alike.
        options: Fields of the method's configuration; `channels` is taken from the images.
        weights: Pretrained weights, if the method takes any; None downloads them.
        seed: Makes the result repeatable.
        false_positive_rate: Share of good parts that may be rejected.
        shorter_side: Shorter side in px that images are reduced to.
        tile: Side in px of the tiles that these are cut into, see `runtime.tiling`; None: they are
            seen whole.
        device: Device name, see `select_device`.
        progress: Called after every step; the stage names say which fold is trained.
        classes: Name of the class that each image shows; empty: they show one, which has no name.
        checkpoints: Folder for the state of the training, kept every minute: the same training goes
            on from there if it was interrupted. To be cleared, as `Training.checkpoints`, once
            the model is written.

    Raises:
        ValueError: Bad options, weights, classes, checkpoints or device; one line.
        Cancelled: If the progress callback asked to stop.
    """
    require_rate(false_positive_rate)
    started = time.perf_counter()
    options = options or {}
    for name, who in DECIDED.items():
        if name in options:
            msg = f'{name} cannot be set: {who}'
            raise ValueError(msg)
    # Read one after the other: there may be more than the memory holds.
    seen = [_Seen.of(image) for image in images]
    channels = 1 if all(one.is_grey for one in seen) else 3
    names = [*dict.fromkeys(classes)] or ['']
    of_images = [names.index(name) for name in classes] or [0] * len(images)
    decided: dict[str, object] = {'channels': channels}
    if names != ['']:
        _require_classes(method, names, of_images, tile)
        decided['classes'] = names
    config = build_config(method, {**options, **decided})
    scoring_config = find_method(method).scoring_config(config)
    size = _common_size([one.size for one in seen], shorter_side)
    if tile is not None:
        require_tile(tile, size)
    target = select_device(device)
    digests = [one.digest for one in seen]
    given = str(
        (
            config,
            size,
            tile,
            seed,
            false_positive_rate,
            digests,
            of_images,
            _file_digest(weights),
            library_versions(),
        )
    )
    kept = FolderCheckpointStore(checkpoints, given) if checkpoints else None
    data_parallel.require_same(given, 'images, options, weights, seed and versions of libraries')
    max_value = max(one.max_value for one in seen)
    batch = torch.cat([to_tensor(image, channels, size, target, max_value) for image in images])

    indices = torch.tensor(of_images)

    def fit(chosen: Tensor, prefix: str) -> tuple[Detector, FitReport]:
        with torch.random.fork_rng(devices=[target] if target.type == 'cuda' else []):
            torch.manual_seed(seed)
            # The detectors of the calibration are for scores alone.
            untrained = find_method(method)(scoring_config if prefix else config)
            untrained.load_pretrained(weights)
            detector = tiled(untrained, tile).to(target)
            of_chosen = {'classes': indices[chosen].to(target)} if len(names) > 1 else {}
            report = detector.fit(
                batch[chosen],
                seed,
                lambda stage, step, steps, loss: progress(prefix + stage, step, steps, loss),
                kept.of(prefix) if kept else NULL_CHECKPOINTS,
                **of_chosen,
            )
            if data_parallel.broadcast(detector) > MAX_WEIGHT_DIFFERENCE:
                msg = 'the processes have learned different weights: run them on machines alike'
                raise ValueError(msg)
        return detector.eval(), report

    fitted, report, held_out = _fit_and_hold_out(fit, batch, indices, seed)
    scores = [one.scores for one in held_out]
    detector = untiled(fitted)
    warnings = []
    fewest = int(indices.bincount().min())
    if fewest < MIN_IMAGES:
        warnings.append(
            f'{fewest} of {MIN_IMAGES} images that are needed at least: fewer say little '
            'about how good parts differ; the thresholds may reject nothing or too much'
        )
    copies = len(digests) - len(set(digests))
    if copies:
        warnings.append(
            f'{copies} of {len(images)} images are the same as another one, pixel by pixel: they '
            'say nothing about how good parts differ, and the limit comes out too low; show '
            'different parts'
        )
    manifest = Manifest(
        method=method,
        config=plain_config(detector),
        input_size=size,
        image_size=seen[0].size,
        classes=tuple(
            PartClass(
                name,
                calibrate(of_class, false_positive_rate),
                stored(of_class, false_positive_rate),
            )
            for name, of_class in zip(names, scores, strict=True)
        ),
        training={
            'images': len(images),
            'digests': digests,
            'seed': seed,
            'seconds': round(time.perf_counter() - started + (kept.seconds if kept else 0.0), 1),
        },
        libraries=library_versions(),
        tile=tile,
        max_value=max_value,
    )
    detector.cpu()
    first = [number for number, index in enumerate(of_images) if index == 0][:GOLDEN_CANDIDATES]
    manifest = dataclasses.replace(
        manifest,
        golden_sample=_choose_golden_sample(
            detector, manifest, [images[number] for number in first]
        ),
    )
    suspect = {
        int(one.images[index]): float(one.scores.image_scores[index])
        for one in held_out
        for index in outliers(one.scores.image_scores)
        # Beside copies, which score next to nothing, every other part looks defective.
        if not copies
    }
    return Training(detector, manifest, report, suspect, warnings, kept)


def _choose_golden_sample(
    detector: Detector, manifest: Manifest, images: Sequence[np.ndarray]
) -> str:
    """Choose what the model file carries: of some images that are found good, the best.

    A single image makes thresholds that it is good by, and says nothing.
    """
    if len(images) < 2 or math.prod(manifest.input_size) > MAX_GOLDEN_PIXELS:
        return ''
    engine = Engine.of(detector, manifest, 'cpu')
    best, least = None, math.inf
    for image in images:
        pixels = to_rgb(image, manifest.input_size, manifest.max_value)
        pixels = pixels[..., 0] if image.ndim == 2 else pixels
        found = engine.inspect_first_class(pixels)
        if found.verdict == Verdict.OK and found.image_score < least:
            best, least = pixels, found.image_score
    return '' if best is None else to_text(best)


def fold_of(stage: str) -> tuple[int, int] | None:
    """Return which of how many folds a stage belongs to; None outside of them."""
    found = re.match(FOLD_PREFIX.format(r'(\d+)', r'(\d+)'), stage)
    return (int(found[1]), int(found[2])) if found else None


def _file_digest(path: Path | None) -> str:
    """Tell weights files apart; those that are downloaded are the libraries'."""
    if path is None or not path.is_file():
        return ''
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _require_classes(
    method: str, names: Sequence[str], of_images: Sequence[int], tile: int | None
) -> None:
    """Check that a method can learn these classes."""
    if not issubclass(find_method(method), MulticlassDetector):
        able = [name for name, one in METHODS.items() if issubclass(one, MulticlassDetector)]
        msg = (
            f'{method} learns one kind of part in a model: give the images of one, or take a '
            f'method that learns several, {", ".join(able)}'
        )
        raise ValueError(msg)
    if len(names) == 1:
        return
    if tile is not None:
        msg = f'tiles of {tile} px show parts of parts: they need a model for each class'
        raise ValueError(msg)
    for index, name in enumerate(names):
        if of_images.count(index) < 2:
            msg = f'class {name} has one image: of several classes each needs 2 or more'
            raise ValueError(msg)


def _common_size(of_images: Sequence[tuple[int, int]], shorter_side: int) -> tuple[int, int]:
    """Size to inspect at: that of all classes, or a square where these have different ones."""
    sizes = {input_size_of(size, shorter_side) for size in of_images}
    return sizes.pop() if len(sizes) == 1 else (min(min(size) for size in sizes),) * 2


def _fit_and_hold_out(
    fit: Callable[[Tensor, str], tuple[Detector, FitReport]],
    batch: Tensor,
    classes: Tensor,
    seed: int,
) -> tuple[Detector, FitReport, list[_HeldOut]]:
    """Train on images, and score those of each class that are held out."""
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(batch)))
    order = [shuffled[classes[shuffled] == index] for index in range(int(classes.max()) + 1)]

    def score(detector: Detector, held_out: Sequence[Tensor]) -> list[_HeldOut]:
        return [
            _HeldOut(of_class, score_images(detector, batch[of_class], index))
            for index, of_class in enumerate(held_out)
        ]

    fewest = min(map(len, order))
    if fewest > MAX_FOLD_IMAGES:
        counts = [max(MIN_HELD_OUT, round(HELD_OUT_SHARE * len(one))) for one in order]
        rest = [one[count:] for one, count in zip(order, counts, strict=True)]
        detector, report = fit(torch.cat(rest).sort().values, '')
        held_out = [one[:count] for one, count in zip(order, counts, strict=True)]
        return detector, report, score(detector, held_out)
    # One image cannot be held out from itself: its own score is all there is.
    folds = min(FOLDS, fewest) if fewest > 1 else 0
    parts = []
    for fold in range(folds):
        chosen = [one[i::folds] for one in order for i in range(folds) if i != fold]
        detector, _ = fit(torch.cat(chosen).sort().values, FOLD_PREFIX.format(fold + 1, folds))
        parts.append(score(detector, [one[fold::folds] for one in order]))
    detector, report = fit(torch.arange(len(batch)), '')
    parts = parts or [score(detector, order)]
    return detector, report, [_HeldOut.merged(of_class) for of_class in zip(*parts, strict=True)]
