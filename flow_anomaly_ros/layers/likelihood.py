# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How unlikely a flow finds the features of a position."""

import math

from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import nn, Tensor

# Scores begin where this share of the positions of good parts is more likely.
FLOOR_QUANTILE = 0.01
# torch.quantile takes no more values.
MAX_QUANTILE_VALUES = 10_000_000


@autocast_disabled
def flow_nll(latents: Tensor, log_determinants: Tensor) -> Tensor:
    """Negative log-density per channel and position, up to a constant; any real number.

    Args:
        latents: BxCxHxW, towards N(0, I).
        log_determinants: BxHxW.

    Returns:
        Bx1xHxW.
    """
    half_squares = 0.5 * latents.square().sum(1, keepdim=True)
    return (half_squares - log_determinants[:, None]) / latents.shape[1]


class ScoreFloor(nn.Module):
    """Scores above what the least abnormal positions of good parts have: 0 or more.

    Until `fit` the floor is 0.
    """

    floor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('floor', torch.zeros(()))

    @torch.no_grad()
    def fit(self, scores: Tensor) -> None:
        """Learn from scores of positions of good parts, of any shape."""
        kept = scores.flatten()[:: math.ceil(scores.numel() / MAX_QUANTILE_VALUES)]
        self.floor.copy_(kept.quantile(FLOOR_QUANTILE))

    def forward(self, scores: Tensor) -> Tensor:
        """Scores of any shape to the same shape."""
        return (scores - self.floor).clamp(min=0)
