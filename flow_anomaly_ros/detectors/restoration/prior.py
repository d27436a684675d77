# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Priors that a flow is trained towards: US 2025/0265693 A1, paragraph 72.

The latents z of a flow are any real numbers, but exponential and Poisson distributions have
positive values only: here y = softplus(z) follows them. The Poisson distribution is made continuous
by the gamma function in place of the factorial. If y is exponential, z is logistic.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

PRIORS = ('gaussian', 'exponential', 'poisson')
# Mean of the continuous Poisson distribution.
RATE = 4.0


def prior_nll(name: str, latents: Tensor) -> Tensor:
    """Negative log-likelihood of each latent under a prior, up to a constant.

    Args:
        name: One of `PRIORS`.
        latents: Any shape.

    Returns:
        A tensor of the same shape.
    """
    if name == 'gaussian':
        return 0.5 * latents.square()
    positive = functional.softplus(latents)
    # Log-determinant of the change of variables from z to y.
    log_determinant = functional.logsigmoid(latents)
    if name == 'exponential':
        return positive - log_determinant
    return torch.lgamma(positive + 1) - math.log(RATE) * positive - log_determinant


def sample(name: str, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw latents from a prior.

    Args:
        name: One of `PRIORS`.
        shape: Shape of the result.
        generator: Source of random numbers.
    """
    if name == 'gaussian':
        return torch.randn(shape, generator=generator)
    uniform = torch.rand(shape, generator=generator)
    if name == 'exponential':
        positive = -torch.log1p(-uniform)
    else:
        counts = torch.poisson(torch.full(shape, RATE), generator=generator)
        # Uniform noise fills the gaps between integers.
        positive = (counts + uniform - 0.5).abs()
    positive = positive.clamp(min=1e-4)
    # Inverse of softplus.
    return positive + torch.log(-torch.expm1(-positive))
