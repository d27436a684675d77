# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pseudo anomalies: what is changed, where the mask is, and that seeds repeat them."""

from flow_anomaly_ros.data import pseudo_anomalies
from flow_anomaly_ros.data.pseudo_anomalies import confetti, cut_paste, synthesize_anomaly, VISIBLE
import pytest
import torch

SIZE = (60, 90)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[1, 3], ids=['grey', 'colour'])
def image(request):
    """Return an image that differs visibly from place to place."""
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, n) for n in SIZE), indexing='ij')
    return torch.stack([(rows + (k + 1) * columns) / 5 + 0.1 for k in range(request.param)])


@pytest.mark.parametrize('kind', [confetti, cut_paste])
def test_an_image_is_changed_in_a_part_of_it_and_left_alone_itself(image, kind):
    before = image.clone()
    for seed in range(20):
        changed = kind(image, seeded(seed))
        assert changed.shape == image.shape
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert 0 < (changed != image).any(0).float().mean() < 0.5
    assert torch.equal(image, before)


def test_what_is_pasted_was_cut_out_of_the_image_in_one_piece(monkeypatch):
    monkeypatch.setattr(pseudo_anomalies, 'PATCHES', (1, 1))
    # Every pixel has a value of its own, one more than that to its left.
    image = torch.arange(1.0 * SIZE[0] * SIZE[1]).reshape(1, *SIZE)
    for seed in range(10):
        changed = cut_paste(image, seeded(seed))
        rows, columns = torch.nonzero((changed != image)[0], as_tuple=True)
        pasted = changed[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert pasted.numel() == len(rows)
        assert torch.isin(pasted, image).all()
        assert pasted.diff(dim=1).eq(1).all()
        assert pasted.diff(dim=0).eq(SIZE[1]).all()


def test_confetti_lie_turned_by_different_angles():
    image = torch.zeros(1, 200, 200)
    sheared = 0
    for seed in range(10):
        rows, columns = torch.nonzero(confetti(image, seeded(seed))[0], as_tuple=True)
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        sheared += len(rows) < 0.95 * box
    assert sheared >= 8


@pytest.mark.parametrize('seed', range(10))
def test_the_mask_covers_what_looks_different_and_little_more(image, seed):
    changed, mask = synthesize_anomaly(image, seeded(seed))
    assert mask.dtype == torch.bool
    assert tuple(mask.shape) == SIZE
    differs = (changed - image).abs().amax(0) >= VISIBLE
    assert (mask | ~differs).all()
    rows, columns = torch.nonzero(differs, as_tuple=True)
    marked = torch.nonzero(mask)
    if len(rows):
        assert marked[:, 0].min() == rows.min()
        assert marked[:, 1].max() == columns.max()
        assert mask.sum() < 2 * differs.sum() + 100


def test_a_patch_on_what_looks_the_same_is_no_anomaly():
    image = torch.full((3, *SIZE), 0.5)
    for seed in range(20):
        changed, mask = synthesize_anomaly(image, seeded(seed))
        assert mask.any() == ((changed - image).abs() >= VISIBLE).any()


def test_a_seed_repeats_an_anomaly_and_others_differ(image):
    first, again, other = (synthesize_anomaly(image, seeded(seed)) for seed in (4, 4, 5))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
