# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How far good parts are from one another, and distances seen beside that."""

from typing import ClassVar

from flow_anomaly_ros.detectors.restoration.dynamic_buffers import DynamicBufferMixin
from flow_anomaly_ros.layers.resample import resize, size_of, smooth
import torch
from torch import Tensor

# Standard deviation of the blur of what is usual, in positions: a few images say little of one.
BLUR = 3.0
# How evenly all positions count: what is usual at one is taken this many times less seriously than
# the mean of all.
EXPECTED_WEIGHT = 3.0
# The share of its positions in which an image is quiet.
LOW_QUANTILE = 0.25
# Quiet positions of good parts lie within so many standard deviations of their mean.
DEVIATIONS = 3.0


class DistanceNormalizer(DynamicBufferMixin):
    """Distances beside those of good parts that were held out.

    Where good parts differ much, such as at edges that are never cut alike, a distance counts less.
    And an image that is a little different everywhere, by its light or its grain, is compared with
    its own quiet positions; but no more than good parts need that: a part that is wrong all over
    stays wrong.

    Until `fit` distances are left as they are.
    """

    # The grid of positions.
    dynamic_dimensions: ClassVar = {'factor': (2, 3)}
    factor: Tensor
    limit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('factor', torch.ones(1, 1, 1, 1))
        self.register_buffer('limit', torch.zeros(()))

    @torch.no_grad()
    def fit(self, distances: Tensor, grid: tuple[int, int]) -> None:
        """Learn from Nx1xhxw distances of good images, N >= 2, each from the others.

        Args:
            distances: The distances.
            grid: (rows, columns) that what is usual is stored at.
        """
        usual = smooth(resize(distances.mean(0, keepdim=True), grid), BLUR)
        mean = usual.mean().clamp(min=torch.finfo(usual.dtype).tiny)
        self.factor = (1 + EXPECTED_WEIGHT) / (usual / mean + EXPECTED_WEIGHT)
        quiet = _low_quantile(self._scaled(distances))
        self.limit.copy_(quiet.mean() + DEVIATIONS * quiet.std())

    def forward(self, distances: Tensor) -> Tensor:
        """Bx1xhxw distances beside what is usual; 0 where they are not larger than that."""
        distances = self._scaled(distances)
        offset = torch.minimum(_low_quantile(distances), self.limit)
        return (distances - offset[:, None, None, None]).clamp(min=0)

    def _scaled(self, distances: Tensor) -> Tensor:
        return distances * resize(self.factor, size_of(distances))


def _low_quantile(distances: Tensor) -> Tensor:
    """Distance that a quiet share of each image's positions lies below, B."""
    flat = distances.flatten(1)
    quiet = flat.topk(max(1, round(LOW_QUANTILE * flat.shape[1])), dim=1, largest=False)
    return quiet.values[:, -1]
