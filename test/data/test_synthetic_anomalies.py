# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic anomalies change a part of the image, have correct masks and are reproducible."""

from flow_anomaly_ros.data import synthetic_anomalies
from flow_anomaly_ros.data.synthetic_anomalies import (
    ANOMALY_TYPES,
    confetti_noise,
    cut_paste,
    MIN_VISIBLE_CHANGE,
    synthesize_anomaly,
)
import pytest
import torch

SIZE = (60, 90)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[1, 3], ids=['grey', 'colour'])
def image(request):
    """An image with visible gradients."""
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, n) for n in SIZE), indexing='ij')
    return torch.stack([(rows + (k + 1) * columns) / 5 + 0.1 for k in range(request.param)])


@pytest.mark.parametrize('add_anomaly', ANOMALY_TYPES)
def test_a_part_of_the_image_is_changed_and_the_original_is_not_modified(image, add_anomaly):
    before = image.clone()
    for seed in range(20):
        changed = add_anomaly(image, seeded(seed))
        assert changed.shape == image.shape
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert 0 < (changed != image).any(0).float().mean() < 0.5
    assert torch.equal(image, before)


def test_a_pasted_patch_is_a_contiguous_patch_of_the_image(monkeypatch):
    monkeypatch.setattr(synthetic_anomalies, 'PATCH_COUNT', (1, 1))
    # Every pixel has a unique value, one more than its left neighbour.
    image = torch.arange(1.0 * SIZE[0] * SIZE[1]).reshape(1, *SIZE)
    for seed in range(10):
        changed = cut_paste(image, seeded(seed))
        rows, columns = torch.nonzero((changed != image)[0], as_tuple=True)
        pasted = changed[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert pasted.numel() == len(rows)
        assert torch.isin(pasted, image).all()
        assert pasted.diff(dim=1).eq(1).all()
        assert pasted.diff(dim=0).eq(SIZE[1]).all()


def test_confetti_rectangles_are_rotated():
    image = torch.zeros(1, 200, 200)
    rotated = 0
    for seed in range(10):
        rows, columns = torch.nonzero(confetti_noise(image, seeded(seed))[0], as_tuple=True)
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        rotated += len(rows) < 0.95 * box
    assert rotated >= 8


@pytest.mark.parametrize('seed', range(10))
def test_the_mask_covers_the_visible_change_and_little_more(image, seed):
    changed, mask = synthesize_anomaly(image, seeded(seed))
    assert mask.dtype == torch.bool
    assert tuple(mask.shape) == SIZE
    differs = (changed - image).abs().amax(0) >= MIN_VISIBLE_CHANGE
    assert (mask | ~differs).all()
    rows, columns = torch.nonzero(differs, as_tuple=True)
    marked = torch.nonzero(mask)
    if len(rows):
        assert marked[:, 0].min() == rows.min()
        assert marked[:, 1].max() == columns.max()
        assert mask.sum() < 2 * differs.sum() + 100


def test_a_patch_on_an_area_of_the_same_appearance_is_not_masked():
    image = torch.full((3, *SIZE), 0.5)
    for seed in range(20):
        changed, mask = synthesize_anomaly(image, seeded(seed))
        assert mask.any() == ((changed - image).abs() >= MIN_VISIBLE_CHANGE).any()


def test_an_anomaly_is_reproducible_and_depends_on_the_seed(image):
    first, again, other = (synthesize_anomaly(image, seeded(seed)) for seed in (4, 4, 5))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
