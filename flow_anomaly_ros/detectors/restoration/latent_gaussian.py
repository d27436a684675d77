# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The distribution that good parts follow in the latent space."""

from typing import ClassVar

from flow_anomaly_ros.detectors.restoration.dynamic_buffers import DynamicBufferMixin
from flow_anomaly_ros.layers.inference import channels_last
import torch
from torch import Tensor

# Few images and their shifted copies agree too well: no position is trusted to vary less than this
# share of the standard Gaussian that the flow was trained towards.
MIN_DEVIATION = 0.3


class LatentGaussian(DynamicBufferMixin):
    """A Gaussian per position and channel, the matrix of US 2025/0265693 A1, paragraph 72.

    Until `fit` it is the standard Gaussian at every position. Fitted, it knows that a hole belongs
    here and a rim there; where parts lie at random it stays close to the standard Gaussian.

    Args:
        channels: Channels of the latents.
    """

    # The grid of positions.
    dynamic_dimensions: ClassVar = {'mean': (1, 2), 'deviation': (1, 2)}

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(channels, 1, 1))
        self.register_buffer('deviation', torch.ones(channels, 1, 1))

    @torch.no_grad()
    def fit(self, latents: Tensor) -> None:
        """Fit to NxKxhxw latents of good images."""
        self.mean = latents.mean(0)
        self.deviation = latents.std(0, correction=0).clamp(min=MIN_DEVIATION)

    def fuse_for_inference(self) -> None:
        """Lie as the latents do; see `inference.fuse_for_inference`."""
        self.mean, self.deviation = (channels_last(x[None])[0] for x in (self.mean, self.deviation))

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
