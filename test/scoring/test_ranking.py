# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""All metrics of a test set, and what makes a test set measure something else."""

from flow_anomaly_ros.scoring.ranking import rank
import numpy as np
import pytest

SIZE = 80


def make_test_set(brighter, side=10):
    """A hundred score maps of good and defective images; these are higher everywhere by so much."""
    generator = np.random.default_rng(0)
    masks = np.zeros((200, SIZE, SIZE), dtype=bool)
    masks[100:, 20 : 20 + side, 20 : 20 + side] = True
    maps = generator.normal(size=masks.shape).astype(np.float32)
    maps[masks] += 8
    maps[100:] += brighter
    return maps.max((1, 2)), masks.any((1, 2)), maps, masks


@pytest.mark.parametrize('side', [10, 45])
def test_images_that_differ_only_by_their_defects_are_told_apart_by_them(side):
    ranking = rank(*make_test_set(brighter=0, side=side))
    assert ranking.image_auroc == ranking.pointing_game == 1
    assert ranking.recall_at_fpr == (1, 1, 1)
    assert ranking.aupimo > 0.95
    assert ranking.auroc_outside_defects == pytest.approx(0.5, abs=0.1)
    assert not ranking.differs_outside_defects


def test_images_that_differ_everywhere_are_reported():
    ranking = rank(*make_test_set(brighter=1))
    assert ranking.auroc_outside_defects > 0.9
    assert ranking.differs_outside_defects


def test_without_masks_there_are_image_metrics_alone():
    scores, labels, _, _ = make_test_set(brighter=0)
    ranking = rank(scores, labels, [], [])
    assert ranking.image_auroc == 1
    assert ranking.pixel_auroc is ranking.aupro is ranking.aupimo is ranking.pointing_game is None
    assert ranking.auroc_outside_defects is None
    assert not ranking.differs_outside_defects
