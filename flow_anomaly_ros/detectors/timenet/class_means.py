# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Nearest-mean classification of images into classes of parts."""

from collections.abc import Sequence

import torch
from torch import nn, Tensor

# Lower bound of the spread of a channel, relative to the mean over all channels: few images may
# agree by chance.
MIN_SPREAD = 0.1


class ClassMeans(nn.Module):
    """Classify images by the nearest class mean, in units of the spread within classes.

    Args:
        classes: Number of classes.
        features: Number of channels of all levels together.
    """

    means: Tensor
    spread: Tensor

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.register_buffer('means', torch.zeros(classes, features))
        self.register_buffer('spread', torch.ones(features))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Classify images by their features, one BxCixhixwi map per level; returns B indices."""
        descriptors = self.describe(levels) / self.spread
        distances = (descriptors[:, None] - self.means / self.spread).square().sum(2)
        return distances.argmin(1)

    @staticmethod
    def describe(levels: Sequence[Tensor]) -> Tensor:
        """Descriptors of images: the spatial mean of each channel of all levels, BxC."""
        return torch.cat([level.mean((2, 3)) for level in levels], 1)

    @torch.no_grad()
    def fit(self, descriptors: Tensor, classes: Tensor) -> None:
        """Estimate class means and spread.

        Args:
            descriptors: NxC descriptors from `describe`, with at least one image of each class.
            classes: N class indices.
        """
        for index in range(len(self.means)):
            self.means[index] = descriptors[classes == index].mean(0)
        within = (descriptors - self.means[classes]).square().mean(0).sqrt()
        minimum = MIN_SPREAD * within.mean()
        # With one image per class there is no spread: channels then have equal weights.
        self.spread.copy_(within.clamp(min=minimum) if minimum > 0 else torch.ones_like(within))
