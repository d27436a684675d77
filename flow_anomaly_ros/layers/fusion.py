# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fusion of scales: each map with the resized maps of others, US 2025/0265693 A1, 88-91."""

from collections.abc import Sequence
from dataclasses import dataclass

from flow_anomaly_ros.layers.resample import resample, size_of
from torch import Tensor


@dataclass(frozen=True)
class Fusion:
    """Which scales are fused, and how maps of one size become maps of another (91).

    Attributes:
        sources: For each scale the indices of the scales that are added to it.
        upsampling: How smaller maps grow, one of `resample.UPSAMPLINGS`.
        downsampling: How larger maps shrink, one of `resample.DOWNSAMPLINGS`.
    """

    sources: tuple[tuple[int, ...], ...]
    upsampling: str = 'bilinear'
    downsampling: str = 'average'

    def __call__(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Sum each BxCxHixWi map and its sources, sizes kept."""
        return [
            sum(
                (
                    resample(maps[source], size_of(own), self.upsampling, self.downsampling)
                    for source in sources
                ),
                start=own,
            )
            for own, sources in zip(maps, self.sources, strict=True)
        ]


def neighbours(scales: int) -> tuple[tuple[int, ...], ...]:
    """Sources that are the next larger and the next smaller scale (89)."""
    return tuple(
        tuple(other for other in (index - 1, index + 1) if 0 <= other < scales)
        for index in range(scales)
    )


def chosen(scales: int, others: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Sources that are the same chosen scales for all."""
    return tuple(tuple(o for o in others if o != index) for index in range(scales))
