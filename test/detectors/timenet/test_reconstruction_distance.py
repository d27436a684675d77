# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Distances of levels and pixels are weighed as equation 5 says, by what good parts have."""

from flow_anomaly_ros.detectors.timenet.reconstruction_distance import (
    pooled_maximum,
    ReconstructionDistance,
)
import pytest
import torch


def seen(count=2, side=8):
    """Images, restored ones, and two levels of both."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(*shape, generator=generator)

    images, restored = (random(count, 3, side, side) for _ in range(2))
    levels, restored_levels = (
        [random(count, 4, side, side), random(count, 6, side, side)] for _ in range(2)
    )
    return images, restored, levels, restored_levels


def test_what_is_restored_as_it_was_differs_nowhere():
    images, _, levels, _ = seen()
    found = ReconstructionDistance([7.0, 7.0], 7.0, 1.0)(images, images, levels, levels)
    assert found.shape == (2, 1, 8, 8)
    assert found.abs().max() < 1e-4


def test_of_one_level_and_pixels_it_is_the_published_sum():
    images, restored, (one, _), (other, _) = seen(count=1)
    difference = ReconstructionDistance([2.0], 3.0, 0.0)
    arguments = (images, restored, [one], [other])
    difference.fit(difference.maxima(*arguments))
    euclidean = (one - other).square().sum(1).sqrt()
    cosine = 1 - (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    levels = 2 * cosine.max() / euclidean.max() * euclidean + cosine
    pixels = (images - restored).square().sum(1)
    # The largest sum of levels is that of the largest terms.
    expected = 3 * (2 + 1) * cosine.max() / pixels.max() * pixels + levels
    torch.testing.assert_close(difference(*arguments)[:, 0], expected)


def test_each_distance_of_good_parts_reaches_its_weight():
    arguments = seen(count=5)
    maxima = ReconstructionDistance.maxima(*arguments)
    assert maxima.shape == (5, 2 * 2 + 1)
    difference = ReconstructionDistance([2.0, 0.5], 3.0, 0.0)
    difference.fit(maxima)
    *levels, pixels = maxima.amax(0).split([2, 2, 1])
    for (euclidean, cosine), scale in zip(levels, difference.level_scales, strict=True):
        torch.testing.assert_close(scale * euclidean, cosine)
    reached = sum((1 + w) * one[1] for w, one in zip((2.0, 0.5), levels, strict=True))
    torch.testing.assert_close(difference.pixel_scale * pixels[0], reached)


def test_a_worse_image_scores_higher():
    images, restored, levels, restored_levels = seen(count=1)
    difference = ReconstructionDistance([7.0, 7.0], 7.0, 0.0)
    difference.fit(difference.maxima(images, restored, levels, restored_levels))

    def score(share):
        """Of an image that is restored but for a share."""
        other = [torch.lerp(x, y, share) for x, y in zip(levels, restored_levels, strict=True)]
        return difference(images, torch.lerp(images, restored, share), levels, other).max()

    assert score(0.2) < 0.5 * score(0.6)


def test_good_parts_that_are_restored_as_they_were_are_no_error():
    images, _, levels, _ = seen()
    difference = ReconstructionDistance([7.0, 7.0], 7.0, 0.0)
    difference.fit(torch.zeros(2, 5))
    assert difference(images, images, levels, levels).isfinite().all()


def test_where_an_image_differs_the_map_is_highest():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    restored = images.clone()
    restored[..., 8:12, 20:24] += 0.5
    levels = [images[..., ::4, ::4]], [restored[..., ::4, ::4]]
    found = ReconstructionDistance([7.0], 7.0, 2.0)(images, restored, *levels)[0, 0]
    row, column = divmod(int(found.argmax()), 32)
    assert 8 <= row < 12
    assert 20 <= column < 24


def test_pooling_prefers_large_defects_to_single_pixels():
    maps = torch.zeros(2, 1, 32, 32)
    maps[0, 0, 5, 5] = 1.0
    maps[1, 0, 10:20, 10:20] = 0.5
    point, area = pooled_maximum(maps, 8).tolist()
    assert point < 0.1 < area
    assert pooled_maximum(maps, 0).tolist() == pytest.approx([1.0, 0.5])
