# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Normalisation of distances by those between good parts."""

from typing import ClassVar

from flow_anomaly_ros.detectors.restoration.dynamic_buffers import DynamicBufferMixin
from flow_anomaly_ros.layers.resample import resize, size_of, smooth
import torch
from torch import Tensor

# Standard deviation in positions of the Gaussian that smooths the expected distances: a few images
# estimate a single position poorly.
SMOOTHING_SIGMA = 3.0
# Regularisation: weight of the mean over all positions, relative to the expected distance of one.
MEAN_WEIGHT = 3.0
# The offset of an image is this quantile of its distances.
OFFSET_QUANTILE = 0.25
# The largest offset is this many standard deviations above the mean offset of good parts.
MAX_OFFSET_DEVIATIONS = 3.0


class DistanceNormalizer(DynamicBufferMixin):
    """Normalise distances by the expected distance at each position, then subtract an offset.

    The expected distance is the mean over held-out good parts. Positions where good parts vary,
    such as edges that are never cut alike, count less.

    The offset is a low quantile of the image's own distances. It removes small differences all over
    the image, such as those of lighting or grain. It is limited to the range of good parts, so a
    part that is wrong everywhere still scores high.

    Until `fit`, distances stay as they are.
    """

    # The grid of positions depends on the training images.
    dynamic_dimensions: ClassVar = {'factor': (2, 3)}
    factor: Tensor
    limit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('factor', torch.ones(1, 1, 1, 1))
        self.register_buffer('limit', torch.zeros(()))

    @torch.no_grad()
    def fit(self, distances: Tensor, grid: tuple[int, int]) -> None:
        """Estimate expected distances and the largest offset.

        Args:
            distances: Nx1xhxw distances of N >= 2 good images, each from the other images.
            grid: (rows, columns) of the stored expected distances.
        """
        expected = smooth(resize(distances.mean(0, keepdim=True), grid), SMOOTHING_SIGMA)
        mean = expected.mean().clamp(min=torch.finfo(expected.dtype).tiny)
        self.factor = (1 + MEAN_WEIGHT) / (expected / mean + MEAN_WEIGHT)
        offsets = _low_quantile(self._scale(distances))
        self.limit.copy_(offsets.mean() + MAX_OFFSET_DEVIATIONS * offsets.std())

    def forward(self, distances: Tensor) -> Tensor:
        """Normalise Bx1xhxw distances to values >= 0, 0 where they do not exceed the offset."""
        distances = self._scale(distances)
        offset = torch.minimum(_low_quantile(distances), self.limit)
        return (distances - offset[:, None, None, None]).clamp(min=0)

    def _scale(self, distances: Tensor) -> Tensor:
        return distances * resize(self.factor, size_of(distances))


def _low_quantile(distances: Tensor) -> Tensor:
    """The `OFFSET_QUANTILE` of the distances of each image, B."""
    flat = distances.flatten(1)
    count = max(1, round(OFFSET_QUANTILE * flat.shape[1]))
    return flat.topk(count, dim=1, largest=False).values[:, -1]
