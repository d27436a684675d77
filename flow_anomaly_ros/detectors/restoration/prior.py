# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Distributions that a flow is trained towards: US 2025/0265693 A1, paragraph 72.

A flow's latents are any real numbers z, the exponential and the Poisson distribution live on
positive ones: their y = softplus(z) follows them. The Poisson distribution is made continuous by
the gamma function in place of the factorial. (That makes z logistic where y is exponential.)
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

PRIORS = ('gaussian', 'exponential', 'poisson')
# Mean of the Poisson-like distribution.
RATE = 4.0


def prior_nll(name: str, latents: Tensor) -> Tensor:
    """Negative log-density of each latent under a prior, up to a constant; same shape.

    Args:
        name: One of `PRIORS`.
        latents: Any shape.
    """
    if name == 'gaussian':
        return 0.5 * latents.square()
    positive = functional.softplus(latents)
    # The change of variables from z to y.
    stretch = functional.logsigmoid(latents)
    if name == 'exponential':
        return positive - stretch
    return torch.lgamma(positive + 1) - math.log(RATE) * positive - stretch


def sample(name: str, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw latents from a prior, as a tensor of the given shape."""
    if name == 'gaussian':
        return torch.randn(shape, generator=generator)
    uniform = torch.rand(shape, generator=generator)
    if name == 'exponential':
        positive = -torch.log1p(-uniform)
    else:
        counts = torch.poisson(torch.full(shape, RATE), generator=generator)
        # Between the whole numbers too.
        positive = (counts + uniform - 0.5).abs()
    positive = positive.clamp(min=1e-4)
    # The inverse of softplus.
    return positive + torch.log(-torch.expm1(-positive))
