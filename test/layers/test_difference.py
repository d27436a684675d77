# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Distances of levels and pixels are weighed as equation 5 says."""

from flow_anomaly_ros.layers.difference import balanced, difference, pooled_maximum
import pytest
import torch


def test_the_first_distance_reaches_so_many_times_the_second():
    first = torch.tensor([0.0, 5.0, 10.0, 0.0]).view(1, 1, 2, 2)
    second = torch.tensor([0.5, 0.0, 0.0, 0.1]).view(1, 1, 2, 2)
    found = balanced(first, second, 7.0).flatten().tolist()
    assert found == pytest.approx([0.5, 7 * 0.25, 7 * 0.5, 0.1])


def test_images_of_a_batch_are_balanced_one_by_one():
    torch.manual_seed(0)
    first, second = torch.rand(2, 3, 1, 4, 4)
    together = balanced(first, second, 2.0)
    alone = torch.cat(
        [balanced(first[i : i + 1], second[i : i + 1], 2.0) for i in range(len(first))]
    )
    torch.testing.assert_close(together, alone)


def test_what_is_restored_as_it_was_differs_nowhere():
    images, level = torch.rand(2, 3, 8, 8), torch.rand(2, 4, 4, 4)
    found = difference(images, images, [(level, level)], [7.0], 7.0, 1.0)
    assert found.shape == (2, 1, 8, 8)
    assert found.abs().max() < 1e-4


def test_it_is_the_published_sum():
    torch.manual_seed(0)
    images, restored = torch.rand(2, 1, 3, 8, 8)
    one, other = torch.rand(2, 1, 4, 8, 8)
    euclidean = (one - other).square().sum(1).sqrt()
    cosine = 1 - (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    levels = 2 * cosine.max() / euclidean.max() * euclidean + cosine
    pixels = (images - restored).square().sum(1)
    expected = 3 * levels.max() / pixels.max() * pixels + levels
    found = difference(images, restored, [(one, other)], [2.0], 3.0, 0.0)
    torch.testing.assert_close(found[:, 0], expected)


def test_where_an_image_differs_the_map_is_highest():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    restored = images.clone()
    restored[..., 8:12, 20:24] += 0.5
    levels = [(images[..., ::4, ::4], restored[..., ::4, ::4])]
    found = difference(images, restored, levels, [7.0], 7.0, 2.0)[0, 0]
    row, column = divmod(int(found.argmax()), 32)
    assert 8 <= row < 12
    assert 20 <= column < 24


def test_pooling_prefers_large_defects_to_single_pixels():
    maps = torch.zeros(2, 1, 32, 32)
    maps[0, 0, 5, 5] = 1.0
    maps[1, 0, 10:20, 10:20] = 0.5
    point, area = pooled_maximum(maps, 8).tolist()
    assert point < 0.1 < area
    assert pooled_maximum(maps, 0).tolist() == [1.0, 0.5]
