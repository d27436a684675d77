# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics equal those of scikit-learn, a slow AUPRO by definition, and known values."""

from flow_anomaly_ros.scoring.metrics import aupro, auroc, best_f1, recall_at_fpr
import numpy as np
import pytest


def random_samples(seed, levels):
    """Draw scores on a few integer levels (many ties) or, with levels=None, continuous ones."""
    rng = np.random.default_rng(seed)
    labels = rng.random(300) < 0.3
    scores = rng.normal(size=300) + labels
    if levels is not None:
        scores = np.round(scores * levels / 4)
    return scores.astype(np.float32), labels


def random_maps(seed, count=4, size=12, levels=6):
    rng = np.random.default_rng(seed)
    masks = np.where(rng.random((count, size, size)) < 0.15, 255, 0).astype(np.uint8)
    masks[0] = 0
    score_maps = rng.integers(0, levels, masks.shape) + 2 * (masks > 0)
    return score_maps.astype(np.float32), masks


def flood_fill_regions(mask):
    """Return the 8-connected regions of a mask as lists of (row, column)."""
    remaining = set(zip(*np.nonzero(mask), strict=True))
    regions = []
    while remaining:
        stack, region = [remaining.pop()], []
        while stack:
            row, column = stack.pop()
            region.append((row, column))
            for d_row in (-1, 0, 1):
                for d_column in (-1, 0, 1):
                    neighbour = (row + d_row, column + d_column)
                    if neighbour in remaining:
                        remaining.remove(neighbour)
                        stack.append(neighbour)
        regions.append(region)
    return regions


def slow_aupro(score_maps, masks, fpr_limit):
    """Compute AUPRO by its definition, one threshold after the other."""
    image_regions = [flood_fill_regions(mask) for mask in masks]
    good_count = sum(int((mask == 0).sum()) for mask in masks)
    thresholds = sorted(
        {float(s) for score_map in score_maps for s in score_map.flat}, reverse=True
    )
    area, last_fpr, last_overlap = 0.0, 0.0, 0.0
    for threshold in thresholds:
        found = [score_map >= threshold for score_map in score_maps]
        fpr = sum(int((f & (m == 0)).sum()) for f, m in zip(found, masks, strict=True)) / good_count
        overlap = np.mean(
            [
                np.mean([f[pixel] for pixel in region])
                for f, regions in zip(found, image_regions, strict=True)
                for region in regions
            ]
        )
        if fpr > fpr_limit:
            share = (fpr_limit - last_fpr) / (fpr - last_fpr)
            at_limit = last_overlap + share * (overlap - last_overlap)
            area += (fpr_limit - last_fpr) * (last_overlap + at_limit) / 2
            break
        area += (fpr - last_fpr) * (last_overlap + overlap) / 2
        last_fpr, last_overlap = fpr, overlap
    return area / fpr_limit


@pytest.mark.parametrize('levels', [None, 1, 4, 40])
@pytest.mark.parametrize('seed', range(3))
def test_auroc_equals_scikit_learn(seed, levels):
    sklearn_metrics = pytest.importorskip('sklearn.metrics')
    scores, labels = random_samples(seed, levels)
    assert auroc(scores, labels) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))


@pytest.mark.parametrize('levels', [None, 1, 4, 40])
@pytest.mark.parametrize('seed', range(3))
def test_best_f1_equals_scikit_learn(seed, levels):
    sklearn_metrics = pytest.importorskip('sklearn.metrics')
    scores, labels = random_samples(seed, levels)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    expected = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    f1, threshold = best_f1(scores, labels)
    assert f1 == pytest.approx(expected)
    assert sklearn_metrics.f1_score(labels, scores >= threshold) == pytest.approx(expected)


def test_best_f1_takes_the_lowest_of_equal_thresholds():
    # From 4 up: 1 of 2 found, no false alarm; from 1 up: 2 of 2 found, 2 false alarms.
    f1, threshold = best_f1(np.array([4, 3, 2, 1]), np.array([1, 0, 0, 1]))
    assert (f1, threshold) == (pytest.approx(2 / 3), 1)


@pytest.mark.parametrize('fpr', [0.0, 0.01, 0.05, 0.5])
@pytest.mark.parametrize('levels', [None, 4])
def test_recall_equals_the_best_point_of_scikit_learns_curve(fpr, levels):
    metrics = pytest.importorskip('sklearn.metrics')
    scores, labels = random_samples(1, levels)
    fprs, tprs, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    assert recall_at_fpr(scores, labels, fpr) == pytest.approx(tprs[fprs <= fpr].max())


def test_no_good_sample_is_rejected_where_the_share_is_less_than_one_sample():
    scores, labels = np.array([1.0, 2, 3, 2.5, 3, 4]), np.array([0, 0, 0, 1, 1, 1])
    assert recall_at_fpr(scores, labels, 0.3) == pytest.approx(1 / 3)
    assert recall_at_fpr(scores, labels, 0.34) == 1
    with pytest.raises(ValueError, match='fpr is 1'):
        recall_at_fpr(scores, labels, 1)


def test_known_auroc_values():
    labels = np.array([[0, 0], [255, 255]], np.uint8)
    assert auroc(np.array([[0, 1], [2, 3]]), labels) == 1
    assert auroc(np.array([[3, 2], [1, 0]]), labels) == 0
    assert auroc(np.zeros((2, 2)), labels) == 0.5


@pytest.mark.parametrize('metric', [auroc, best_f1])
def test_image_metrics_refuse_bad_input(metric):
    with pytest.raises(ValueError, match='labels hold no anomalous sample'):
        metric(np.arange(3), np.zeros(3))
    with pytest.raises(ValueError, match='labels hold no good sample'):
        metric(np.arange(3), np.ones(3))
    with pytest.raises(ValueError, match='1 of 3 values are NaN or infinite'):
        metric(np.array([0, np.nan, 1]), np.array([0, 1, 1]))
    with pytest.raises(ValueError, match='give one label per score'):
        metric(np.arange(3), np.array([0, 1]))


@pytest.mark.parametrize('fpr_limit', [0.05, 0.3, 1.0])
@pytest.mark.parametrize('levels', [2, 6, 1000])
@pytest.mark.parametrize('seed', range(2))
def test_aupro_equals_its_definition(seed, levels, fpr_limit):
    score_maps, masks = random_maps(seed, levels=levels)
    expected = slow_aupro(score_maps, masks, fpr_limit)
    assert aupro(score_maps, masks, fpr_limit) == pytest.approx(expected, abs=1e-12)


def test_aupro_takes_images_of_mixed_sizes():
    first_maps, first_masks = random_maps(0, size=12)
    second_maps, second_masks = random_maps(1, size=9)
    score_maps, masks = [*first_maps, *second_maps], [*first_masks, *second_masks]
    assert aupro(score_maps, masks) == pytest.approx(slow_aupro(score_maps, masks, 0.3))


def test_aupro_counts_a_small_region_as_much_as_a_large_one():
    mask = np.zeros((10, 20), np.uint8)
    mask[:, :10] = 255
    mask[5, 15] = 255
    score_map = np.zeros(mask.shape, np.float32)
    score_map[:, :10] = 2
    score_map[:, 15] = -1
    # The large region is found at once; the small one, below all others, only beyond the limit.
    assert aupro([score_map], [mask]) == pytest.approx(0.5)


def test_known_aupro_values():
    _, masks = random_maps(0)
    perfect = (masks > 0).astype(np.float32)
    assert aupro(perfect, masks) == pytest.approx(1)
    assert aupro(-perfect, masks) == 0
    # All is found at once: the curve is the diagonal.
    assert aupro(np.zeros(masks.shape), masks, 0.3) == pytest.approx(0.15)


def test_aupro_refuses_bad_input():
    score_maps, masks = random_maps(0)
    with pytest.raises(ValueError, match='masks hold no anomalous pixel'):
        aupro(score_maps, np.zeros_like(masks))
    with pytest.raises(ValueError, match='masks hold no good pixel'):
        aupro(score_maps, np.ones_like(masks))
    with pytest.raises(ValueError, match='masks hold no anomalous pixel'):
        aupro([], [])
    with pytest.raises(ValueError, match='4 score maps but 3 masks'):
        aupro(score_maps, masks[:3])
    with pytest.raises(ValueError, match='score map 0 is'):
        aupro(score_maps, masks[:, :5])
    with pytest.raises(ValueError, match='fpr_limit is 0'):
        aupro(score_maps, masks, 0)
    score_maps[2, 3, 4] = np.inf
    with pytest.raises(ValueError, match='score map 2: 1 of 144 values are NaN or infinite'):
        aupro(score_maps, masks)
