# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How well scores rank defective images and pixels above good ones, whatever the thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

from flow_anomaly_ros.scoring.localisation import aupimo, peaks_outside, points_at_defect
from flow_anomaly_ros.scoring.metrics import aupro, auroc, best_f1, recall_at_fpr
import numpy as np

# Shares of good images that may be rejected.
FPRS = (0.01, 0.05, 0.1)
# Images differ outside of their defects from this area on, if it is also this many standard errors
# away from chance.
MIN_DIFFERENCE = 0.65
MIN_STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Ranking:
    """Metrics that need no thresholds; those that the images do not allow are None.

    Attributes:
        image_auroc: Area under the ROC curve of the image scores, in [0, 1].
        image_f1: Best F1 of the image scores over all thresholds.
        recall_at_fpr: Share of defective images that are found when no more than each of `FPRS` of
            the good ones are rejected; see `metrics.recall_at_fpr`.
        pixel_auroc: Area under the ROC curve of all pixels.
        aupro: Per-region overlap up to 30 % false positives, in [0, 1].
        aupimo: Mean per-image overlap at very low false-positive rates; see `localisation.aupimo`.
        pointing_game: Share of defective images whose highest score lies in the defect.
        auroc_outside_defects: Area under the ROC curve of the highest scores outside of the defects
            and a margin. Much more than 0.5: good and defective images differ by more than their
            marked defects, and `image_auroc` and `recall_at_fpr` are too optimistic.
        differs_outside_defects: Whether it is too much for chance.
    """

    image_auroc: float | None
    image_f1: float | None
    recall_at_fpr: tuple[float, ...] | None
    pixel_auroc: float | None
    aupro: float | None
    aupimo: float | None
    pointing_game: float | None
    auroc_outside_defects: float | None
    differs_outside_defects: bool


def rank(
    scores: np.ndarray,
    labels: np.ndarray,
    score_maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
) -> Ranking:
    """Compute all metrics.

    Args:
        scores: N image scores.
        labels: N bool, True where the image shows a defect.
        score_maps: HxW float32 arrays, of the images whose defective pixels are known.
        masks: HxW bool arrays of the same images, True where defective.
    """
    both = labels.any() and not labels.all()
    # Pixel metrics need good pixels too.
    marked = any(mask.any() for mask in masks) and not all(mask.all() for mask in masks)
    # It checks the shapes.
    region_overlap = aupro(score_maps, masks) if marked else None
    areas = aupimo(score_maps, masks)
    pointed = [
        points_at_defect(score_map, mask)
        for score_map, mask in zip(score_maps, masks, strict=True)
        if mask.any()
    ]
    outside, differs = _outside_defects(score_maps, masks)
    return Ranking(
        image_auroc=auroc(scores, labels) if both else None,
        image_f1=best_f1(scores, labels)[0] if both else None,
        recall_at_fpr=tuple(recall_at_fpr(scores, labels, fpr) for fpr in FPRS) if both else None,
        pixel_auroc=auroc(_flat(score_maps), _flat(masks)) if marked else None,
        aupro=region_overlap,
        aupimo=float(np.mean([area for area in areas if area is not None])) if areas else None,
        pointing_game=float(np.mean(pointed)) if pointed else None,
        auroc_outside_defects=outside,
        differs_outside_defects=differs,
    )


def _outside_defects(
    score_maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> tuple[float | None, bool]:
    """Area under the ROC curve outside of the defects, and whether it is too much for chance."""
    if all(mask.any() for mask in masks) or not any(mask.any() for mask in masks):
        return None, False
    peaks, labels = peaks_outside(score_maps, masks)
    if not labels.any() or labels.all():
        return None, False
    area = auroc(peaks, labels)
    # Of the Mann-Whitney U statistic where both follow one distribution.
    defective = int(labels.sum())
    good = len(labels) - defective
    standard_error = math.sqrt((good + defective + 1) / (12 * good * defective))
    limit = max(MIN_DIFFERENCE, 0.5 + MIN_STANDARD_ERRORS * standard_error)
    return area, area > limit


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])
