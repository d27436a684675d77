# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Distribution of good parts in the latent space."""

from typing import ClassVar

from flow_anomaly_ros.detectors.restoration.dynamic_buffers import DynamicBufferMixin
from flow_anomaly_ros.layers.inference import channels_last
import torch
from torch import Tensor

# Smallest standard deviation, relative to the standard Gaussian that the flow was trained towards:
# few images and their shifted copies underestimate the spread.
MIN_DEVIATION = 0.3


class LatentGaussian(DynamicBufferMixin):
    """A Gaussian per position and channel: the matrix of US 2025/0265693 A1, paragraph 72.

    Until `fit` it is the standard Gaussian at each position. If parts are always in the same pose,
    the fitted one describes what belongs where, such as a hole or a rim; if they lie at random, it
    stays close to the standard Gaussian.

    Args:
        channels: Channels of the latents.
    """

    # The grid of positions depends on the training images.
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
        """Convert to the memory format of the latents; see `inference.fuse_for_inference`."""
        self.mean, self.deviation = (channels_last(x[None])[0] for x in (self.mean, self.deviation))

    def nearest(self, latents: Tensor, tolerance: float) -> Tensor:
        """Clamp latents to the range of good parts.

        Args:
            latents: BxKxhxw.
            tolerance: Half the width of that range, in standard deviations.

        Returns:
            BxKxhxw latents within `tolerance` standard deviations of the mean.
        """
        radius = tolerance * self.deviation
        return torch.clamp(latents, self.mean - radius, self.mean + radius)
