# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a detector, exact over all thresholds: AUROC, recall, AUPRO and the best F1.

A score >= the threshold counts as anomalous. The scores of each class are sorted separately and
ranked by binary search, so that millions of pixels need no index array.
"""

from collections.abc import Sequence
import math

import cv2
import numpy as np


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: the probability that an anomalous sample outscores a good one.

    Equals the normalised Mann-Whitney U statistic, a tie counting one half (Hanley and McNeil,
    "The meaning and use of the area under a ROC curve", Radiology 143, 1982).

    Args:
        scores: Finite scores of any shape, larger = more anomalous; one per image or per pixel.
        labels: Same shape; 0 or False = good, anything else = anomalous.

    Returns:
        Area in [0, 1]; 0.5 for uninformative scores.

    Raises:
        ValueError: Shapes differ, a score is not finite, or a class is missing.
    """
    good, anomalous = _sorted_by_class(scores, labels)
    good_below = int(good.searchsorted(anomalous, side='left').sum())
    good_up_to = int(good.searchsorted(anomalous, side='right').sum())
    return (good_below + good_up_to) / (2 * good.size * anomalous.size)


def best_f1(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Largest F1 (harmonic mean of precision and recall) over all thresholds.

    Args:
        scores: Finite scores of any shape, larger = more anomalous; one per image or per pixel.
        labels: Same shape; 0 or False = good, anything else = anomalous.

    Returns:
        F1 in (0, 1] and its threshold: scores >= threshold are anomalous. Of several thresholds
        with the same F1 the lowest, which misses the fewest anomalies.

    Raises:
        ValueError: Shapes differ, a score is not finite, or a class is missing.
    """
    good, anomalous = _sorted_by_class(scores, labels)
    # Any other threshold can be raised to the next anomalous score without losing a true positive.
    true_positives = anomalous.size - anomalous.searchsorted(anomalous, side='left')
    false_positives = good.size - good.searchsorted(anomalous, side='left')
    f1 = 2 * true_positives / (anomalous.size + true_positives + false_positives)
    best = int(f1.argmax())
    return float(f1[best]), float(anomalous[best])


def recall_at_fpr(scores: np.ndarray, labels: np.ndarray, fpr: float) -> float:
    """Recall at the lowest threshold that rejects no more than a share of the good samples.

    A line can afford to reject only a few percent of good parts; AUROC averages over all
    false-positive rates.

    Args:
        scores: Finite scores of any shape, larger = more anomalous; one per image or per pixel.
        labels: Same shape; 0 or False = good, anything else = anomalous.
        fpr: Largest false-positive rate, in [0, 1). With fewer than 1 / fpr good samples none of
            them is rejected.

    Returns:
        Share of the anomalous samples that score higher than the good ones that remain, in [0, 1].

    Raises:
        ValueError: Shapes differ, a score is not finite, a class is missing, or `fpr` is out of
            range.
    """
    if not 0 <= fpr < 1:
        msg = f'fpr is {fpr}; give a false-positive rate of at least 0 and below 1'
        raise ValueError(msg)
    good, anomalous = _sorted_by_class(scores, labels)
    # Not one fewer because a product such as 0.29 * 100 falls just below the whole number.
    rejected = math.floor(fpr * good.size + 1e-9)
    limit = good[good.size - 1 - rejected]
    return float((anomalous > limit).mean())


def aupro(
    score_maps: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray,
    fpr_limit: float = 0.3,
) -> float:
    """Area under the per-region overlap curve, up to a false-positive rate.

    The overlap of a ground-truth region (8-connected) is the share of its pixels above the
    threshold. The mean overlap over all regions of all images is integrated over the false-positive
    rate of all good pixels, from 0 to `fpr_limit`, linearly between adjacent thresholds and up to
    the limit itself, and divided by the limit (Bergmann et al., "Uninformed Students", CVPR 2020,
    and "The MVTec Anomaly Detection Dataset", IJCV 129, 2021). Small and large defects have equal
    weight.

    Args:
        score_maps: B finite score maps HxW, larger = more anomalous; sizes may differ.
        masks: B ground-truth masks of the same sizes; 0 or False = good, anything else = anomalous.
        fpr_limit: Upper end of the integral, in (0, 1].

    Returns:
        Normalised area in [0, 1]; `fpr_limit / 2` for constant score maps.

    Raises:
        ValueError: Counts or shapes differ, a score is not finite, `fpr_limit` is out of range, or
            there are no good pixels or no regions.
    """
    if not 0 < fpr_limit <= 1:
        msg = f'fpr_limit is {fpr_limit}; give a false-positive rate above 0 and up to 1'
        raise ValueError(msg)
    if len(score_maps) != len(masks):
        msg = f'{len(score_maps)} score maps but {len(masks)} masks; give one mask per score map'
        raise ValueError(msg)

    good_maps, region_maps, weight_maps = [], [], []
    region_count = 0
    for index, (score_map, mask) in enumerate(zip(score_maps, masks, strict=True)):
        good_scores, region_scores, weights, regions = _split_by_region(score_map, mask, index)
        good_maps.append(good_scores)
        region_maps.append(region_scores)
        weight_maps.append(weights)
        region_count += regions
    good_count = sum(scores.size for scores in good_maps)
    if region_count == 0 or good_count == 0:
        kind = 'anomalous' if region_count == 0 else 'good'
        msg = f'masks hold no {kind} pixel; AUPRO needs good and anomalous pixels'
        raise ValueError(msg)

    good = np.concatenate(good_maps)
    del good_maps
    good.sort()
    region_scores, weights = np.concatenate(region_maps), np.concatenate(weight_maps)
    # Sorted queries access memory in order, which makes the searches much faster.
    order = region_scores.argsort()
    region_scores, weights = region_scores[order], weights[order]

    # The contribution of a region pixel to the overlap rises from 0 at the false-positive rate
    # `start` to 1 at `end`. Both are equal unless good pixels have the same score.
    start = 1 - good.searchsorted(region_scores, side='right') / good.size
    end = 1 - good.searchsorted(region_scores, side='left') / good.size
    start_in, end_in = np.minimum(start, fpr_limit), np.minimum(end, fpr_limit)
    rise = np.where(end > start, end - start, 1)
    area = (end_in - start_in) ** 2 / (2 * rise) + (fpr_limit - end_in)
    return float(weights @ area / (region_count * fpr_limit))


def _sorted_by_class(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the good and of the anomalous samples, 1-D, ascending."""
    scores, anomalous = np.asarray(scores), np.asarray(labels) != 0
    if scores.shape != anomalous.shape:
        msg = f'scores {scores.shape} and labels {anomalous.shape} differ; give one label per score'
        raise ValueError(msg)
    _require_finite(scores, 'scores')
    good_scores, anomalous_scores = scores[~anomalous], scores[anomalous]
    if good_scores.size == 0 or anomalous_scores.size == 0:
        kind = 'good' if good_scores.size == 0 else 'anomalous'
        msg = f'labels hold no {kind} sample; give samples of both classes'
        raise ValueError(msg)
    good_scores.sort()
    anomalous_scores.sort()
    return good_scores, anomalous_scores


def _split_by_region(
    score_map: np.ndarray, mask: np.ndarray, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Good scores, region scores, their weights (1 / area of the region), number of regions."""
    score_map, anomalous = np.asarray(score_map), np.asarray(mask) != 0
    if score_map.ndim != 2 or score_map.shape != anomalous.shape:
        msg = (
            f'score map {index} is {score_map.shape} and its mask {anomalous.shape}; '
            'give both as HxW of one size'
        )
        raise ValueError(msg)
    _require_finite(score_map, f'score map {index}')
    if not anomalous.any():
        return score_map.ravel(), score_map[anomalous], np.empty(0), 0
    count, labels = cv2.connectedComponents(anomalous.view(np.uint8), connectivity=8)
    pixel_labels = labels[anomalous]
    weights = 1 / np.bincount(pixel_labels)[1:]
    return score_map[~anomalous], score_map[anomalous], weights[pixel_labels - 1], count - 1


def _require_finite(scores: np.ndarray, name: str) -> None:
    finite = np.isfinite(scores)
    if not finite.all():
        count = finite.size - np.count_nonzero(finite)
        msg = f'{name}: {count} of {finite.size} values are NaN or infinite; give finite scores'
        raise ValueError(msg)
