# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Densities and samples of a prior belong together, and have the moments of their namesakes."""

from flow_anomaly_ros.detectors.restoration.prior import prior_nll, PRIORS, RATE, sample
import pytest
import torch
from torch.nn import functional

# Mean and variance of z for the Gaussian, of softplus(z) for the others.
MOMENTS = {'gaussian': (0.0, 1.0), 'exponential': (1.0, 1.0), 'poisson': (RATE, RATE)}


def visible(name, latents):
    return latents if name == 'gaussian' else functional.softplus(latents)


def expectation(name, values):
    """Integrate over the density on a fine grid of latents."""
    grid = torch.linspace(-30, 60, 200_001, dtype=torch.float64)
    density = (-prior_nll(name, grid)).exp()
    return ((values(visible(name, grid)) * density).sum() / density.sum()).item()


@pytest.mark.parametrize('name', PRIORS)
def test_densities_have_their_moments(name):
    mean, variance = MOMENTS[name]
    found = expectation(name, lambda y: y)
    assert found == pytest.approx(mean, abs=0.15)
    assert expectation(name, lambda y: (y - found).square()) == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize('name', PRIORS)
def test_samples_follow_the_density(name):
    drawn = visible(name, sample(name, (200, 100), torch.Generator().manual_seed(0)))
    assert drawn.isfinite().all()
    found = expectation(name, lambda y: y)
    assert drawn.mean().item() == pytest.approx(found, abs=0.15)
    assert drawn.var().item() == pytest.approx(MOMENTS[name][1], rel=0.15)


@pytest.mark.parametrize('name', PRIORS)
def test_extreme_latents_have_finite_densities_and_slopes(name):
    latents = torch.tensor([-80.0, 0.0, 80.0], requires_grad=True)
    prior_nll(name, latents).sum().backward()
    assert latents.grad.isfinite().all()
