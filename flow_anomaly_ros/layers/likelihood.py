# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Likelihood of features under a flow, as a score per position."""

import math

from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import nn, Tensor

# The score floor is this quantile of the scores of good parts.
FLOOR_QUANTILE = 0.01
# Maximum number of values that torch.quantile accepts.
MAX_QUANTILE_VALUES = 10_000_000


@autocast_disabled
def flow_nll(latents: Tensor, log_determinants: Tensor) -> Tensor:
    """Negative log-likelihood per position, divided by the number of channels.

    The constant of the normal distribution is left out.

    Args:
        latents: BxCxHxW latents of a flow that is trained towards N(0, I).
        log_determinants: BxHxW log-determinants of the flow at each position.

    Returns:
        Bx1xHxW, any real numbers; larger = less likely.
    """
    half_squares = 0.5 * latents.square().sum(1, keepdim=True)
    return (half_squares - log_determinants[:, None]) / latents.shape[1]


class ScoreFloor(nn.Module):
    """Subtract a low quantile of good parts' scores and clamp at 0.

    The floor is 0 until `fit`.
    """

    floor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('floor', torch.zeros(()))

    @torch.no_grad()
    def fit(self, scores: Tensor) -> None:
        """Set the floor to the `FLOOR_QUANTILE` of scores of good parts, of any shape."""
        sample = scores.flatten()[:: math.ceil(scores.numel() / MAX_QUANTILE_VALUES)]
        self.floor.copy_(sample.quantile(FLOOR_QUANTILE))

    def forward(self, scores: Tensor) -> Tensor:
        """Map scores of any shape to scores >= 0 of the same shape."""
        return (scores - self.floor).clamp(min=0)
