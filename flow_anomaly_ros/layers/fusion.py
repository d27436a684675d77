# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fusion of scales: each map with the resized maps of others, US 2025/0265693 A1, 88-91."""

from collections.abc import Sequence
from dataclasses import dataclass

from flow_anomaly_ros.layers.resample import resize, size_of
from torch import Tensor
from torch.nn import functional

UPSAMPLINGS = ('bilinear', 'bicubic', 'nearest')
DOWNSAMPLINGS = ('average', 'max', 'nearest')


@dataclass(frozen=True)
class Fusion:
    """Which scales are fused, and how maps of one size become maps of another (91).

    Attributes:
        sources: For each scale the indices of the scales that are added to it.
        upsampling: How smaller maps grow, one of `UPSAMPLINGS`.
        downsampling: How larger maps shrink, one of `DOWNSAMPLINGS`.
    """

    sources: tuple[tuple[int, ...], ...]
    upsampling: str = 'bilinear'
    downsampling: str = 'average'

    def __call__(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Sum each BxCxHixWi map and its sources, sizes kept."""
        return [
            sum((self._resized(maps[source], size_of(own)) for source in sources), start=own)
            for own, sources in zip(maps, self.sources, strict=True)
        ]

    def _resized(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        grows = size[0] > maps.shape[-2] or size[1] > maps.shape[-1]
        method = self.upsampling if grows else self.downsampling
        if method == 'max':
            return functional.adaptive_max_pool2d(maps, size)
        if method == 'nearest':
            return functional.interpolate(maps, size=size, mode='nearest-exact')
        if method == 'bicubic':
            return functional.interpolate(maps, size=size, mode='bicubic', align_corners=False)
        return resize(maps, size)


def neighbours(scales: int) -> tuple[tuple[int, ...], ...]:
    """Sources that are the next larger and the next smaller scale (89)."""
    return tuple(
        tuple(other for other in (index - 1, index + 1) if 0 <= other < scales)
        for index in range(scales)
    )


def chosen(scales: int, others: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Sources that are the same chosen scales for all."""
    return tuple(tuple(o for o in others if o != index) for index in range(scales))
