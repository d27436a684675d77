# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Distances of features and pixels are combined by equation 5, scaled by those of good parts."""

from flow_anomaly_ros.detectors.timenet.reconstruction_distance import (
    pooled_maximum,
    ReconstructionDistance,
)
import pytest
import torch


def random_inputs(count=2, side=8):
    """Draw images, restored images, and two levels of features of both."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(*shape, generator=generator)

    images, restored = (random(count, 3, side, side) for _ in range(2))
    levels, restored_levels = (
        [random(count, 4, side, side), random(count, 6, side, side)] for _ in range(2)
    )
    return images, restored, levels, restored_levels


NO_OFFSETS = ((0.0, 0.0),) * 2


def test_a_perfect_reconstruction_has_no_distance():
    images, _, levels, _ = random_inputs()
    score_map = ReconstructionDistance([7.0, 7.0], 7.0, 1.0)(
        images, images, levels, levels, NO_OFFSETS
    )
    assert score_map.shape == (2, 1, 8, 8)
    assert score_map.abs().max() < 1e-4


def test_with_one_level_the_score_map_is_the_published_sum():
    images, restored, (level, _), (restored_level, _) = random_inputs(count=1)
    distance = ReconstructionDistance([2.0], 3.0, 0.0)
    arguments = (images, restored, [level], [restored_level])
    distance.fit(distance.maxima(*arguments))
    euclidean = (level - restored_level).square().sum(1).sqrt()
    norms = level.norm(dim=1) * restored_level.norm(dim=1)
    cosine = 1 - (level * restored_level).sum(1) / norms
    levels = 2 * cosine.max() / euclidean.max() * euclidean + cosine
    pixels = (images - restored).square().sum(1)
    # The maximum of the feature distance is taken as the sum of the maxima of its terms.
    expected = 3 * (2 + 1) * cosine.max() / pixels.max() * pixels + levels
    torch.testing.assert_close(distance(*arguments, NO_OFFSETS[:1])[:, 0], expected)


def test_the_scaled_distances_of_good_parts_reach_their_weights():
    arguments = random_inputs(count=5)
    maxima = ReconstructionDistance.maxima(*arguments)
    assert maxima.shape == (5, 2 * 2 + 1)
    distance = ReconstructionDistance([2.0, 0.5], 3.0, 0.0)
    distance.fit(maxima)
    *levels, pixels = maxima.amax(0).split([2, 2, 1])
    for (euclidean, cosine), scale in zip(levels, distance.level_scales, strict=True):
        torch.testing.assert_close(scale * euclidean, cosine)
    expected = sum(
        (1 + weight) * cosine for weight, (_, cosine) in zip((2.0, 0.5), levels, strict=True)
    )
    torch.testing.assert_close(distance.pixel_scale * pixels[0], expected)


def test_a_worse_reconstruction_scores_higher():
    images, restored, levels, restored_levels = random_inputs(count=1)
    distance = ReconstructionDistance([7.0, 7.0], 7.0, 0.0)
    distance.fit(distance.maxima(images, restored, levels, restored_levels))

    def score(share):
        """Score a blend of the image and its restored image."""
        blended = [torch.lerp(x, y, share) for x, y in zip(levels, restored_levels, strict=True)]
        return distance(
            images, torch.lerp(images, restored, share), levels, blended, NO_OFFSETS
        ).max()

    assert score(0.2) < 0.5 * score(0.6)


def test_perfectly_reconstructed_good_parts_give_finite_scores():
    images, _, levels, _ = random_inputs()
    distance = ReconstructionDistance([7.0, 7.0], 7.0, 0.0)
    distance.fit(torch.zeros(2, 5))
    assert distance(images, images, levels, levels, NO_OFFSETS).isfinite().all()


def test_the_score_map_is_highest_where_the_images_differ():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    restored = images.clone()
    restored[..., 8:12, 20:24] += 0.5
    levels = [images[..., ::4, ::4]], [restored[..., ::4, ::4]]
    score_map = ReconstructionDistance([7.0], 7.0, 2.0)(images, restored, *levels, NO_OFFSETS[:1])[
        0, 0
    ]
    row, column = divmod(int(score_map.argmax()), 32)
    assert 8 <= row < 12
    assert 20 <= column < 24


def test_pooling_suppresses_single_pixels_more_than_large_defects():
    maps = torch.zeros(2, 1, 32, 32)
    maps[0, 0, 5, 5] = 1.0
    maps[1, 0, 10:20, 10:20] = 0.5
    point, area = pooled_maximum(maps, 8).tolist()
    assert point < 0.1 < area
    assert pooled_maximum(maps, 0).tolist() == pytest.approx([1.0, 0.5])
