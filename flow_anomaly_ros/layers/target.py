# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The distribution that good parts follow in the latent space."""

from typing import Any

import torch
from torch import nn, Tensor

# Few images and their shifted copies agree too well: no position is trusted to vary less than this
# share of the standard Gaussian that the flow was trained towards.
LEAST_DEVIATION = 0.3


class TargetDistribution(nn.Module):
    """A Gaussian per position and channel, the matrix of US 2025/0265693 A1, paragraph 72.

    Until `fit` it is the standard Gaussian at every position. Fitted, it knows that a hole belongs
    here and a rim there; where parts lie at random it stays close to the standard Gaussian.

    Args:
        channels: Channels of the latents.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(channels, 1, 1))
        self.register_buffer('deviation', torch.ones(channels, 1, 1))

    @torch.no_grad()
    def fit(self, latents: Tensor) -> None:
        """Fit to NxKxhxw latents of good images."""
        self.mean = latents.mean(0)
        self.deviation = latents.std(0, correction=0).clamp(min=LEAST_DEVIATION)

    def nearest(self, latents: Tensor, tolerance: float) -> Tensor:
        """Nearest likely point to each latent.

        Args:
            latents: BxKxhxw.
            tolerance: How many standard deviations from the mean are likely.

        Returns:
            BxKxhxw: the latents, with every component that good parts do not show moved to the
            nearest value that they do.
        """
        reach = tolerance * self.deviation
        return torch.clamp(latents, self.mean - reach, self.mean + reach)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        # The grid of positions is known from the images of the training alone.
        for name in ('mean', 'deviation'):
            saved = state.get(prefix + name)
            if saved is not None and saved.dim() == 3 and len(saved) == len(self.mean):
                setattr(self, name, torch.empty_like(saved, device=self.mean.device))
        super()._load_from_state_dict(state, prefix, *args)
