# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Samples of a prior follow its density, and both have the moments of their distribution."""

from flow_anomaly_ros.detectors.restoration.prior import prior_nll, PRIORS, RATE, sample
import pytest
import torch
from torch.nn import functional

# Mean and variance of z for the Gaussian, of softplus(z) for the others.
MOMENTS = {'gaussian': (0.0, 1.0), 'exponential': (1.0, 1.0), 'poisson': (RATE, RATE)}


def observed(name, latents):
    return latents if name == 'gaussian' else functional.softplus(latents)


def expectation(name, values):
    """Integrate over the density on a fine grid of latents."""
    grid = torch.linspace(-30, 60, 200_001, dtype=torch.float64)
    density = (-prior_nll(name, grid)).exp()
    return ((values(observed(name, grid)) * density).sum() / density.sum()).item()


@pytest.mark.parametrize('name', PRIORS)
def test_a_density_has_the_moments_of_its_distribution(name):
    mean, variance = MOMENTS[name]
    estimated = expectation(name, lambda y: y)
    assert estimated == pytest.approx(mean, abs=0.15)
    assert expectation(name, lambda y: (y - estimated).square()) == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize('name', PRIORS)
def test_samples_follow_the_density(name):
    drawn = observed(name, sample(name, (200, 100), torch.Generator().manual_seed(0)))
    assert drawn.isfinite().all()
    expected = expectation(name, lambda y: y)
    assert drawn.mean().item() == pytest.approx(expected, abs=0.15)
    assert drawn.var().item() == pytest.approx(MOMENTS[name][1], rel=0.15)


@pytest.mark.parametrize('name', PRIORS)
def test_extreme_latents_have_finite_densities_and_gradients(name):
    latents = torch.tensor([-80.0, 0.0, 80.0], requires_grad=True)
    prior_nll(name, latents).sum().backward()
    assert latents.grad.isfinite().all()
