# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which class of parts an image shows, by how near its features are to the mean of each class."""

from collections.abc import Sequence

import torch
from torch import nn, Tensor

# No channel counts as less spread than this share of the mean of all: few images may agree by
# chance.
MIN_SPREAD = 0.1


class ClassMeans(nn.Module):
    """The class with the nearest mean, in units of the spread within classes.

    Args:
        classes: How many classes there are.
        features: Channels of all levels together.
    """

    means: Tensor
    spread: Tensor

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.register_buffer('means', torch.zeros(classes, features))
        self.register_buffer('spread', torch.ones(features))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Estimate the class of images, B indices, from levels of their features, BxCixhixwi."""
        described = self.describe(levels) / self.spread
        distances = (described[:, None] - self.means / self.spread).square().sum(2)
        return distances.argmin(1)

    @staticmethod
    def describe(levels: Sequence[Tensor]) -> Tensor:
        """Mean of each channel of all levels, BxC."""
        return torch.cat([level.mean((2, 3)) for level in levels], 1)

    @torch.no_grad()
    def fit(self, described: Tensor, classes: Tensor) -> None:
        """Learn means and spread.

        Args:
            described: NxC of `describe`, with an image of every class.
            classes: N indices.
        """
        for index in range(len(self.means)):
            self.means[index] = described[classes == index].mean(0)
        within = (described - self.means[classes]).square().mean(0).sqrt()
        least = MIN_SPREAD * within.mean()
        # Where classes have an image each there is none within; then channels count as they are.
        self.spread.copy_(within.clamp(min=least) if least > 0 else torch.ones_like(within))
