# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Likely latents stay as they are; others are clamped to the range of good parts."""

from flow_anomaly_ros.detectors.restoration.latent_gaussian import LatentGaussian, MIN_DEVIATION
import pytest
import torch


@pytest.fixture
def gaussian():
    generator = torch.Generator().manual_seed(0)
    gaussian = LatentGaussian(4)
    gaussian.fit(2 + 3 * torch.randn(50, 4, 5, 3, generator=generator))
    return gaussian


def test_each_position_has_the_statistics_of_good_images():
    # Position (0, 0) is always 1; at (0, 1) half of the images have 0, the other half 4.
    latents = torch.tensor([[1.0, 0.0], [1.0, 4.0]])[:, None, None]
    gaussian = LatentGaussian(1)
    gaussian.fit(latents)
    torch.testing.assert_close(gaussian.mean.flatten(), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(gaussian.deviation.flatten(), torch.tensor([MIN_DEVIATION, 2.0]))


def test_likely_latents_stay_and_others_are_clamped(gaussian):
    inside = gaussian.mean + 1.9 * gaussian.deviation
    above = gaussian.mean + 5 * gaussian.deviation
    below = gaussian.mean - 5 * gaussian.deviation
    nearest = gaussian.nearest(torch.stack([inside, above, below]), tolerance=2.0)
    edges = [gaussian.mean + 2 * gaussian.deviation, gaussian.mean - 2 * gaussian.deviation]
    torch.testing.assert_close(nearest, torch.stack([inside, *edges]))


def test_before_fit_it_is_the_standard_gaussian_at_any_size():
    nearest = LatentGaussian(2).nearest(torch.full((1, 2, 3, 4), 9.0), tolerance=1.5)
    torch.testing.assert_close(nearest, torch.full((1, 2, 3, 4), 1.5))


def test_a_new_gaussian_loads_the_state_of_a_fitted_one(gaussian):
    loaded = LatentGaussian(4)
    loaded.load_state_dict(gaussian.state_dict())
    latents = 9 * torch.randn(2, 4, 5, 3)
    assert torch.equal(loaded.nearest(latents, 2.0), gaussian.nearest(latents, 2.0))


def test_a_state_with_other_channels_is_refused(gaussian):
    with pytest.raises(RuntimeError, match='mean'):
        LatentGaussian(6).load_state_dict(gaussian.state_dict())
