# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Measures how well an engine tells good parts from defective ones."""

from collections.abc import Callable, Sequence
import dataclasses
from dataclasses import dataclass
from pathlib import Path
import time
from typing import Any

from flow_anomaly_ros.data.folder import GOOD, load_mask, Sample
from flow_anomaly_ros.data.images import ImageReadError, read_image
from flow_anomaly_ros.runtime.engine import Criteria, Engine, Inspection
from flow_anomaly_ros.scoring.ranking import FPRS, rank, Ranking
from flow_anomaly_ros.scoring.thresholds import Verdict
import numpy as np

DEFECTIVE = 'defective'


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
        """Whether the verdict is ok for a good part, or defect for a defective one."""
        return self.verdict == (Verdict.DEFECT if self.is_defect else Verdict.OK)

    @property
    def is_wrong(self) -> bool:
        """Whether the verdict is neither correct nor uncertain."""
        return self.verdict != Verdict.UNCERTAIN and not self.is_correct


@dataclass(frozen=True)
class Evaluation:
    """What a test set shows.

    Attributes:
        rows: One per image.
        skipped: One line per image that could not be read.
        ranking: Metrics that do not depend on the thresholds.
    """

    rows: tuple[Row, ...]
    skipped: tuple[str, ...]
    ranking: Ranking

    def confusion(self) -> dict[str, dict[str, int]]:
        """Count the images by ground truth, `good` or `defective`, and verdict."""
        return {
            truth: {
                str(verdict): sum(
                    row.is_defect == is_defect and row.verdict == verdict for row in self.rows
                )
                for verdict in Verdict
            }
            for truth, is_defect in ((GOOD, False), (DEFECTIVE, True))
        }

    def metrics(self) -> dict[str, Any]:
        """Return the metrics, the counts and the latencies as values for JSON.

        `precision`, `recall` and `false_positive_rate` are those of the verdict `defect`, so that
        `uncertain` counts as not found. The precision holds for the share of defective images in
        this test set only. `false_reject_rate` is the share of good parts that are not ok,
        `escape_rate` that of defective parts that are.
        """
        latencies = [row.latency_ms for row in self.rows]
        confusion = self.confusion()
        good, defective = (confusion[truth] for truth in (GOOD, DEFECTIVE))
        correct = sum(row.is_correct for row in self.rows)
        ranking = dataclasses.asdict(self.ranking)
        recalls = ranking.pop('recall_at_fpr') or (None,) * len(FPRS)
        return {
            'images': len(self.rows),
            'skipped': len(self.skipped),
            **ranking,
            **{
                f'recall_at_{fpr:.0%}_fpr'.replace('%', '_percent'): recall
                for fpr, recall in zip(FPRS, recalls, strict=True)
            },
            'verdicts_right': correct,
            'verdicts_uncertain': good['uncertain'] + defective['uncertain'],
            'verdicts_wrong': sum(row.is_wrong for row in self.rows),
            'precision': _share(defective['defect'], defective['defect'] + good['defect']),
            'recall': _share(defective['defect'], sum(defective.values())),
            'false_positive_rate': _share(good['defect'], sum(good.values())),
            'false_reject_rate': _share(sum(good.values()) - good['ok'], sum(good.values())),
            'escape_rate': _share(defective['ok'], sum(defective.values())),
            'confusion': confusion,
            'latency_ms_p50': float(np.percentile(latencies, 50)) if latencies else None,
            'latency_ms_p95': float(np.percentile(latencies, 95)) if latencies else None,
        }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def evaluate(
    engine: Engine,
    samples: tuple[Sample, ...],
    on_image: Callable[[Sample, np.ndarray, Inspection], None] | None = None,
    part_class: str = '',
    mask_rule: str = 'calibrated',
) -> Evaluation:
    """Inspect test images one at a time and compare with the ground truth.

    Pixel metrics are computed at the detector's input size. There are none for a model that
    normalises its score maps.

    Args:
        engine: The engine.
        samples: Test images.
        on_image: Called with each sample, its image and its inspection.
        part_class: Name of the class of all of them; empty: the detector estimates it.
        mask_rule: See `Thresholds.rule`.

    Raises:
        ValueError: No image could be read, or the class is not in the model.
    """
    rows, skipped, maps, masks = [], [], [], []
    thresholds = tuple(each.override(rule=mask_rule) for each in engine.manifest.thresholds)
    criteria = [Criteria(thresholds, part_class=part_class)]
    # Pixels of different images cannot be ranked if one threshold does not fit all maps.
    is_comparable = all(each.rule == 'calibrated' for each in engine.manifest.thresholds)
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
        if mask is not None and is_comparable:
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
    scores = np.array([row.score for row in rows])
    labels = np.array([row.is_defect for row in rows])
    return Evaluation(tuple(rows), tuple(skipped), rank(scores, labels, score_maps, masks))
