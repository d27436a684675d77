# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Measures how well an engine tells good parts from defective ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
import time

from flow_anomaly_ros.data.folder import load_mask, Sample
from flow_anomaly_ros.data.images import ImageReadError, read_image
from flow_anomaly_ros.runtime.engine import Criteria, Engine, Inspection
from flow_anomaly_ros.scoring.metrics import aupro, auroc, best_f1
from flow_anomaly_ros.scoring.thresholds import Verdict
import numpy as np


@dataclass(frozen=True)
class Row:
    """One inspected test image.

    Attributes:
        path: Image file.
        label: Ground truth, `good` or the kind of defect.
        is_defect: Ground truth.
        verdict: Verdict of the engine.
        score: Image score.
        regions: Number of regions found.
        latency_ms: Time from array to inspection.
    """

    path: Path
    label: str
    is_defect: bool
    verdict: Verdict
    score: float
    regions: int
    latency_ms: float

    @property
    def is_correct(self) -> bool:
        """Whether the verdict is correct: ok for good, defect for defective; uncertain never is."""
        return self.verdict == (Verdict.DEFECT if self.is_defect else Verdict.OK)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a test set; those that it does not allow are None.

    Attributes:
        rows: One per image.
        skipped: One line per image that could not be read.
        image_auroc: Area under the ROC curve of the image scores, in [0, 1].
        pixel_auroc: The same of all pixels.
        aupro: Per-region overlap up to 30 % false positives, in [0, 1].
        image_f1: Best F1 of the image scores over all thresholds.
    """

    rows: tuple[Row, ...]
    skipped: tuple[str, ...]
    image_auroc: float | None
    pixel_auroc: float | None
    aupro: float | None
    image_f1: float | None

    def metrics(self) -> dict[str, float | int | None]:
        """Return the metrics, the counts and the latencies as values for JSON."""
        latencies = [row.latency_ms for row in self.rows]
        good = [row for row in self.rows if not row.is_defect]
        return {
            'images': len(self.rows),
            'skipped': len(self.skipped),
            'image_auroc': self.image_auroc,
            'pixel_auroc': self.pixel_auroc,
            'aupro': self.aupro,
            'image_f1': self.image_f1,
            'verdicts_right': sum(row.is_correct for row in self.rows),
            'verdicts_wrong': sum(not row.is_correct for row in self.rows),
            'false_positive_rate': (
                sum(row.verdict == Verdict.DEFECT for row in good) / len(good) if good else None
            ),
            'latency_ms_p50': float(np.percentile(latencies, 50)) if latencies else None,
            'latency_ms_p95': float(np.percentile(latencies, 95)) if latencies else None,
        }


def evaluate(
    engine: Engine,
    samples: tuple[Sample, ...],
    on_image: Callable[[Sample, np.ndarray, Inspection], None] | None = None,
    part_class: str = '',
) -> Evaluation:
    """Inspect test images one at a time and compare with the ground truth.

    Pixel metrics are computed at the detector's input size.

    Args:
        engine: The engine.
        samples: Test images.
        on_image: Called with each sample, its image and its inspection.
        part_class: Name of the class of all of them; empty: the detector estimates it.

    Raises:
        ValueError: No image could be read, or the class is not in the model.
    """
    rows, skipped, maps, masks = [], [], [], []
    criteria = [Criteria(engine.manifest.thresholds, part_class=part_class)]
    engine.warm_up()
    for sample in samples:
        try:
            image = read_image(sample.path)
            mask = load_mask(sample, engine.manifest.input_size)
        except ImageReadError as error:
            skipped.append(str(error))
            continue
        start = time.perf_counter()
        inspection = engine.inspect([image], criteria)[0]
        latency = 1e3 * (time.perf_counter() - start)
        rows.append(
            Row(
                sample.path,
                sample.label,
                sample.is_defect,
                inspection.verdict,
                inspection.image_score,
                len(inspection.regions),
                latency,
            )
        )
        if mask is not None:
            maps.append(inspection.scores)
            masks.append(mask)
        if on_image:
            on_image(sample, image, inspection)
    if not rows:
        first = f'; the first: {skipped[0]}' if skipped else ''
        msg = f'none of the {len(samples)} test images is readable{first}'
        raise ValueError(msg)
    return summarise(rows, maps, masks, skipped)


def summarise(
    rows: Sequence[Row],
    score_maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    skipped: Sequence[str] = (),
) -> Evaluation:
    """Compute the metrics of a test run.

    Args:
        rows: One per image.
        score_maps: HxW float32 arrays, of the images whose defective pixels are known.
        masks: HxW bool arrays of the same images, True where defective.
        skipped: One line per image that could not be read.
    """
    labels = np.array([row.is_defect for row in rows])
    scores = np.array([row.score for row in rows])
    both = labels.any() and not labels.all()
    # Pixel metrics need good pixels too.
    marked = any(mask.any() for mask in masks) and not all(mask.all() for mask in masks)
    return Evaluation(
        rows=tuple(rows),
        skipped=tuple(skipped),
        image_auroc=auroc(scores, labels) if both else None,
        pixel_auroc=auroc(_flat(score_maps), _flat(masks)) if marked else None,
        aupro=aupro(score_maps, masks) if marked else None,
        image_f1=best_f1(scores, labels)[0] if both else None,
    )


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])
