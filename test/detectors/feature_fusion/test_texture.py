# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Quantisation and counting of similarities: equations 1 and 2, and their two-dimensional form."""

from flow_anomaly_ros.detectors.feature_fusion.texture import (
    _split,
    PyramidTexture,
    quantise,
    similarity_to_mean,
    TextureEnhancement,
)
import pytest
import torch
from torch import nn


def test_positions_belong_to_the_nearest_level():
    levels, membership = quantise(torch.tensor([[0.0, 0.1, 0.5, 0.9, 1.0]]), 4)
    torch.testing.assert_close(levels, torch.tensor([[0.125, 0.375, 0.625, 0.875]]))
    expected = torch.zeros(1, 5, 4)
    for position, level, nearness in (
        (0, 0, 0.875),
        (1, 0, 0.975),
        (2, 2, 0.875),
        (3, 3, 0.975),
        (4, 3, 0.875),
    ):
        expected[0, position, level] = nearness
    torch.testing.assert_close(membership, expected)


def test_levels_span_the_range_of_similarities_of_each_image():
    similarities = torch.tensor([[0.2, 0.4], [-1.0, 1.0]])
    levels, membership = quantise(similarities, 2)
    torch.testing.assert_close(levels, torch.tensor([[0.25, 0.35], [-0.5, 0.5]]))
    assert (membership > 0).sum(2).eq(1).all()


def test_equal_similarities_belong_to_one_level():
    levels, membership = quantise(torch.full((1, 6), 0.3), 8)
    assert levels.isfinite().all()
    assert (membership.sum(1) > 0).sum() == 1


def test_maps_are_split_into_regions_row_by_row():
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    regions = _split(maps, 2)
    assert regions[:, 0].tolist() == [
        [[0, 1], [4, 5]],
        [[2, 3], [6, 7]],
        [[8, 9], [12, 13]],
        [[10, 11], [14, 15]],
    ]


def test_pairs_are_counted_with_the_right_and_the_lower_neighbour():
    pyramid = PyramidTexture(channels=2, levels=2)
    # Two directions, whose mean is most like the first: similarities are high in the left column
    # and at the top right, low at the bottom right.
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    region = torch.stack([torch.stack([a, a]), torch.stack([a, b])]).permute(2, 0, 1)[None]
    (entries,) = pyramid._count_pairs(region)
    assert entries.shape == (4, 3)
    low, high = entries[:, 0].unique().tolist()
    assert low < high
    shares = {(x, y): share for x, y, share in entries.tolist()}
    # Right: high-high and high-low; below: high-high and high-low. Each is half of all pairs.
    nearness = 1 - (high - low) / 2
    assert nearness < 1
    assert shares[high, high] == pytest.approx(2)
    assert shares[high, low] == pytest.approx(2)
    assert shares[low, high] == shares[low, low] == 0


@pytest.mark.parametrize('size', [(1, 1), (3, 5), (16, 24)])
def test_texture_features_have_the_size_of_the_map(size):
    torch.manual_seed(0)
    maps = torch.randn(2, 6, *size)
    assert tuple(TextureEnhancement(6, 8)(maps).shape) == (2, 6, *size)
    assert tuple(PyramidTexture(6, 4)(maps).shape) == (2, 24, *size)


def test_positions_of_a_level_have_the_same_texture_scaled_by_their_membership():
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 6, 8)
    network = TextureEnhancement(4, 3)
    # Make each level attend to itself, as after training; initially attention is uniform.
    network.fuse.weight.data *= 10
    for layer in (network.query, network.key):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    texture = network(maps)[0].flatten(1).T
    similarities, _ = similarity_to_mean(maps)
    membership = quantise(similarities.flatten(1), 3).membership[0]
    own = membership.argmax(1)
    assert own.unique().tolist() == [0, 1, 2]
    unscaled = texture / membership.amax(1, keepdim=True)
    for level in range(3):
        same = unscaled[own == level]
        torch.testing.assert_close(same, same[:1].expand_as(same))
    assert not torch.allclose(unscaled[own == 0][0], unscaled[own == 2][0], rtol=0.01)


def test_images_of_a_batch_do_not_influence_each_other():
    torch.manual_seed(0)
    maps = torch.randn(3, 6, 16, 16)
    for network in (TextureEnhancement(6, 8), PyramidTexture(6, 4)):
        torch.testing.assert_close(network(maps)[1:2], network(maps[1:2]), rtol=1e-4, atol=1e-5)
