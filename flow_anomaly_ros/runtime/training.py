# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""From images of good parts to a calibrated detector.

A training goes through five steps: request, dataset, fit and hold out, calibrate, assemble.
"""

from collections.abc import Sequence
import dataclasses
from dataclasses import dataclass
import hashlib
import math
from pathlib import Path
import time
from typing import Any, NamedTuple

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.data.duplicates import find_duplicates, signature
from flow_anomaly_ros.detectors.base import Detector, FitReport, no_progress, Progress
from flow_anomaly_ros.detectors.checkpoints import NULL_CHECKPOINTS
from flow_anomaly_ros.detectors.method import Method
from flow_anomaly_ros.detectors.registry import METHODS
from flow_anomaly_ros.runtime.artifact import library_versions, plain_config, with_mask_rule
from flow_anomaly_ros.runtime.calibration import calibration_record, image_digest
from flow_anomaly_ros.runtime.checkpoints import FolderCheckpointStore
from flow_anomaly_ros.runtime.cross_validation import fit_and_hold_out, HeldOut
from flow_anomaly_ros.runtime.device import select_device
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.golden_sample import to_text
from flow_anomaly_ros.runtime.heap import keep_freed_memory
from flow_anomaly_ros.runtime.manifest import input_size_of, Manifest, PartClass
from flow_anomaly_ros.runtime.preprocess import max_value_of, size_of, to_rgb, to_tensor
from flow_anomaly_ros.runtime.tiling import cut_training_tiles, require_tile, tiled, untiled
from flow_anomaly_ros.runtime.training_data import load_dataset, TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
from flow_anomaly_ros.scoring.calibration import calibrate, outliers
from flow_anomaly_ros.scoring.thresholds import Verdict
import numpy as np
import torch
from torch import Tensor

# Below this many images thresholds are unreliable, and a warning says so.
MIN_IMAGES = 4
# Images that the golden sample is chosen from, and px that it has at most: the header of a model
# file may take 100 MB.
GOLDEN_CANDIDATES = 4
MAX_GOLDEN_PIXELS = 2**22
# Processes of one training end with weights that are equal up to rounding.
MAX_WEIGHT_DIFFERENCE = 1e-2


@dataclass(frozen=True)
class Training:
    """What `train` returns.

    Attributes:
        detector: Trained detector on the CPU.
        manifest: Its manifest, with calibrated thresholds.
        report: Losses of the detector's own training (not of those for calibration).
        held_out: Index of each image that was held out, and its score by a detector that had not
            seen it.
        outliers: Images that differ from the others as a defective part does: index and held-out
            score of each, the worst first.
        duplicates: Images that show the same part as another one: index of each, and of the first
            of its part. They were not used.
        warnings: What else makes the thresholds unreliable, a line each.
        checkpoints: Checkpoints it saved, to be cleared once the model is written; None without a
            folder for them.
    """

    detector: Detector
    manifest: Manifest
    report: FitReport
    held_out: dict[int, float]
    outliers: dict[int, float]
    duplicates: dict[int, int]
    warnings: list[str]
    checkpoints: FolderCheckpointStore | None = None


class _ImageFacts(NamedTuple):
    """What is read from every image before any is resized."""

    size: tuple[int, int]
    is_grey: bool
    max_value: int
    digest: str
    signature: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> '_ImageFacts':
        return cls(
            size=size_of(image),
            is_grey=image.ndim == 2,
            max_value=max_value_of(image),
            digest=image_digest(image),
            signature=signature(image),
        )


@dataclass(frozen=True)
class _Setup:
    """Request and dataset, checked and with everything derived that does not need training.

    Attributes:
        request: The request.
        images: The dataset's images.
        facts: Of each image.
        duplicates: Images that show the same part as another one, which are not used, and that one.
        used: N indices of the images that are used.
        class_names: Names of the classes; `('',)` for one without a name.
        classes: Indices of the classes of the N images.
        config: The method's configuration.
        input_size: (height, width) in px that images are resized to.
        device: Where the training runs.
    """

    request: TrainingRequest
    images: Sequence[np.ndarray]
    facts: list[_ImageFacts]
    duplicates: dict[int, int]
    used: list[int]
    class_names: tuple[str, ...]
    classes: Tensor
    config: Any
    input_size: tuple[int, int]
    device: torch.device

    @property
    def method(self) -> Method:
        return self.request.find_method()

    @property
    def max_value(self) -> int:
        return max(image.max_value for image in self.facts)

    @property
    def digests(self) -> list[str]:
        return [image.digest for image in self.facts]

    def fingerprint(self) -> str:
        """Return everything that the result depends on, as text."""
        request = self.request
        return str(
            (
                self.config,
                self.input_size,
                request.tile,
                request.seed,
                request.rates,
                self.digests,
                self.classes.tolist(),
                _file_digest(request.weights),
                library_versions(),
            )
        )

    def load_images(self) -> Tensor:
        """Resize the N images: NxCxHxW float32 in [0, 1] on the device."""
        # One after the other: the originals may be more than the memory holds.
        return torch.cat(
            [
                to_tensor(
                    self.images[index],
                    self.config.channels,
                    self.input_size,
                    self.device,
                    self.max_value,
                )
                for index in self.used
            ]
        )


def train(
    request: TrainingRequest,
    dataset: TrainingDataset | None = None,
    progress: Progress = no_progress,
) -> Training:
    """Train and calibrate a detector.

    Thresholds come from images that the detector which scores them has not seen: scores of its own
    training images are too low to be a threshold. The process keeps the memory that it frees from
    then on, see `keep_freed_memory`.

    Args:
        request: What to train.
        dataset: The images; None loads them from the request's folders.
        progress: Called after every step; names of stages say which fold is trained.

    Raises:
        ValueError: The request or the images cannot be used; one line.
        Cancelled: The progress callback asked to stop.
    """
    started = time.perf_counter()
    keep_freed_memory()
    request.check()
    setup = _prepare(request, dataset or load_dataset(request))
    checkpoints = None
    if request.checkpoints:
        checkpoints = FolderCheckpointStore(request.checkpoints, setup.fingerprint())
    data_parallel.require_same(
        setup.fingerprint(), 'images, options, weights, seed and library versions'
    )
    images = setup.load_images()

    def fit(chosen: Tensor, stage_prefix: str) -> tuple[Detector, FitReport]:
        return _fit(setup, images, chosen, stage_prefix, progress, checkpoints)

    # A tile is not an image.
    can_leave_out = setup.method.can_leave_out(setup.config) and request.tile is None
    fitted, report, held_out = fit_and_hold_out(
        fit, images, setup.classes, request.seed, can_leave_out, progress
    )
    detector = untiled(fitted)
    seconds = time.perf_counter() - started + (checkpoints.seconds if checkpoints else 0.0)
    manifest = _assemble(setup, detector, held_out, seconds)
    return Training(
        detector=detector,
        manifest=manifest,
        report=report,
        held_out={
            setup.used[index]: score
            for of_class in held_out
            for index, score in zip(
                of_class.indices.tolist(), of_class.scores.image_scores.tolist(), strict=True
            )
        },
        outliers=_outliers(setup, held_out),
        duplicates=setup.duplicates,
        warnings=_warnings(setup),
        checkpoints=checkpoints,
    )


def _prepare(request: TrainingRequest, dataset: TrainingDataset) -> _Setup:
    """Check a dataset against its request, and derive what both decide."""
    facts = [_ImageFacts.of(image) for image in dataset.images]
    class_names = tuple(dict.fromkeys(dataset.classes))
    duplicates = _find_duplicates(facts, dataset.classes)
    used = [index for index in range(len(facts)) if index not in duplicates]
    if class_names:
        _require_classes(request, class_names, [dataset.classes[index] for index in used])
    input_size = _common_input_size([image.size for image in facts], request.image_size)
    if request.tile is not None:
        require_tile(request.tile, input_size)
    return _Setup(
        request=request,
        images=dataset.images,
        facts=facts,
        duplicates=duplicates,
        used=used,
        class_names=class_names or ('',),
        classes=torch.tensor(
            [class_names.index(dataset.classes[index]) if class_names else 0 for index in used]
        ),
        config=request.build_config(1 if all(x.is_grey for x in facts) else 3, class_names),
        input_size=input_size,
        device=select_device(request.device),
    )


def _find_duplicates(facts: Sequence[_ImageFacts], classes: Sequence[str]) -> dict[int, int]:
    """Find images that show the same part as another one of their class."""
    duplicates: dict[int, int] = {}
    for name in dict.fromkeys(classes) or [None]:
        chosen = [i for i in range(len(facts)) if name is None or classes[i] == name]
        found = find_duplicates([facts[index].signature for index in chosen])
        duplicates |= {chosen[index]: chosen[first] for index, first in found.items()}
    return duplicates


def _require_classes(
    request: TrainingRequest, names: Sequence[str], of_images: Sequence[str]
) -> None:
    """Check that the method can learn these classes."""
    if not request.find_method().is_multiclass:
        able = [name for name, method in METHODS.items() if method.is_multiclass]
        msg = (
            f'{request.method} learns one class of parts per model: give the images of one class, '
            f'or choose a method that learns several: {", ".join(able)}'
        )
        raise ValueError(msg)
    if len(names) == 1:
        return
    if request.tile is not None:
        msg = f'tiles ({request.tile} px) do not show whole parts: train one model per class'
        raise ValueError(msg)
    for name in names:
        if of_images.count(name) < 2:
            msg = f'class {name} has one image: with several classes each needs 2 or more'
            raise ValueError(msg)


def _common_input_size(
    image_sizes: Sequence[tuple[int, int]], shorter_side: int
) -> tuple[int, int]:
    """Input size that all classes share: a square where theirs differ."""
    sizes = {input_size_of(size, shorter_side) for size in image_sizes}
    return sizes.pop() if len(sizes) == 1 else (min(min(size) for size in sizes),) * 2


def _fit(
    setup: _Setup,
    images: Tensor,
    chosen: Tensor,
    stage_prefix: str,
    progress: Progress,
    checkpoints: FolderCheckpointStore | None,
) -> tuple[Detector, FitReport]:
    """Train a detector on the chosen images; see `FitOnSubset`."""
    request, device = setup.request, setup.device
    # Detectors of folds only score.
    config = setup.method.scoring_config(setup.config) if stage_prefix else setup.config
    samples, classes = images[chosen], setup.classes[chosen].to(device)
    notes: list[str] = []
    if request.tile is not None:
        samples, notes = cut_training_tiles(samples, request.tile, request.seed)
        classes = classes.new_zeros(len(samples))
    with torch.random.fork_rng(devices=[device] if device.type == 'cuda' else []):
        torch.manual_seed(request.seed)
        detector = setup.method.detector(config)
        detector.load_pretrained(request.weights)
        detector.to(device)
        report = setup.method.fit(
            detector,
            samples,
            request.seed,
            lambda stage, step, steps, loss: progress(stage_prefix + stage, step, steps, loss),
            checkpoints.of(stage_prefix) if checkpoints else NULL_CHECKPOINTS,
            classes,
        )
        if data_parallel.broadcast(detector) > MAX_WEIGHT_DIFFERENCE:
            msg = 'the weights of the processes have diverged: use machines of the same kind'
            raise ValueError(msg)
    report.notes.extend(notes)
    return tiled(detector.eval(), request.tile), report


def _assemble(
    setup: _Setup, detector: Detector, held_out: Sequence[HeldOut], seconds: float
) -> Manifest:
    """Calibrate each class and make the manifest; moves the detector to the CPU."""
    rates, spread = setup.request.rates, setup.method.score_spread
    manifest = Manifest(
        method=setup.request.method,
        config=plain_config(detector),
        input_size=setup.input_size,
        image_size=setup.facts[0].size,
        classes=tuple(
            PartClass(
                name,
                calibrate(of_class.scores, rates, spread),
                calibration_record(of_class.scores, rates, spread),
            )
            for name, of_class in zip(setup.class_names, held_out, strict=True)
        ),
        training={
            'images': len(setup.used),
            'digests': setup.digests,
            'seed': setup.request.seed,
            'seconds': round(seconds, 1),
        },
        libraries=library_versions(),
        tile=setup.request.tile,
        max_value=setup.max_value,
    )
    manifest = with_mask_rule(detector, manifest)
    first_class = (setup.classes == 0).nonzero()[:GOLDEN_CANDIDATES, 0].tolist()
    candidates = [setup.images[setup.used[index]] for index in first_class]
    detector.cpu()
    return dataclasses.replace(
        manifest, golden_sample=_choose_golden_sample(detector, manifest, candidates)
    )


def _choose_golden_sample(
    detector: Detector, manifest: Manifest, images: Sequence[np.ndarray]
) -> str:
    """Return the image with the lowest score of those that are ok, as text; empty if none is.

    A single image is always ok by the thresholds that it makes, which proves nothing.
    """
    if len(images) < 2 or math.prod(manifest.input_size) > MAX_GOLDEN_PIXELS:
        return ''
    engine = Engine.of(detector, manifest, 'cpu')
    best, lowest = None, math.inf
    for image in images:
        pixels = to_rgb(image, manifest.input_size, manifest.max_value)
        pixels = pixels[..., 0] if image.ndim == 2 else pixels
        inspection = engine.inspect_first_class(pixels)
        if inspection.verdict == Verdict.OK and inspection.image_score < lowest:
            best, lowest = pixels, inspection.image_score
    return '' if best is None else to_text(best)


def _outliers(setup: _Setup, held_out: Sequence[HeldOut]) -> dict[int, float]:
    spread = setup.method.score_spread
    return {
        setup.used[int(of_class.indices[index])]: float(of_class.scores.image_scores[index])
        for of_class in held_out
        for index in outliers(of_class.scores.image_scores, spread=spread)
    }


def _warnings(setup: _Setup) -> list[str]:
    warnings = []
    fewest = int(setup.classes.bincount().min())
    if fewest < MIN_IMAGES:
        warnings.append(
            f'only {fewest} training image{"s" * (fewest > 1)} (minimum {MIN_IMAGES}): thresholds '
            'are unreliable and may reject nothing or too much; add images of good parts'
        )
    return warnings


def _file_digest(path: Path | None) -> str:
    """Identify a weights file; those of libraries and packages are identified by the versions."""
    if path is None or not path.is_file():
        return ''
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
