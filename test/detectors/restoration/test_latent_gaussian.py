# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The target distribution leaves what good parts show, and moves the rest to where it could be."""

from flow_anomaly_ros.detectors.restoration.latent_gaussian import LatentGaussian, MIN_DEVIATION
import pytest
import torch


@pytest.fixture
def target():
    generator = torch.Generator().manual_seed(0)
    target = LatentGaussian(4)
    target.fit(2 + 3 * torch.randn(50, 4, 5, 3, generator=generator))
    return target


def test_each_position_has_the_statistics_of_the_good_images():
    # Position (0, 0) is always 1; at (0, 1) half of the images have 0, half have 4.
    latents = torch.tensor([[1.0, 0.0], [1.0, 4.0]])[:, None, None]
    target = LatentGaussian(1)
    target.fit(latents)
    torch.testing.assert_close(target.mean.flatten(), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(target.deviation.flatten(), torch.tensor([MIN_DEVIATION, 2.0]))


def test_likely_latents_stay_and_others_move_to_the_nearest_likely_value(target):
    inside = target.mean + 1.9 * target.deviation
    above = target.mean + 5 * target.deviation
    below = target.mean - 5 * target.deviation
    nearest = target.nearest(torch.stack([inside, above, below]), tolerance=2.0)
    edges = [target.mean + 2 * target.deviation, target.mean - 2 * target.deviation]
    torch.testing.assert_close(nearest, torch.stack([inside, *edges]))


def test_without_a_fit_it_is_the_standard_gaussian_at_any_size():
    nearest = LatentGaussian(2).nearest(torch.full((1, 2, 3, 4), 9.0), tolerance=1.5)
    torch.testing.assert_close(nearest, torch.full((1, 2, 3, 4), 1.5))


def test_a_fresh_one_takes_the_state_of_a_fitted_one(target):
    fresh = LatentGaussian(4)
    fresh.load_state_dict(target.state_dict())
    latents = 9 * torch.randn(2, 4, 5, 3)
    assert torch.equal(fresh.nearest(latents, 2.0), target.nearest(latents, 2.0))


def test_the_state_of_other_latents_is_refused(target):
    with pytest.raises(RuntimeError, match='mean'):
        LatentGaussian(6).load_state_dict(target.state_dict())
