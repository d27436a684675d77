# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fusion of scales: each map with the resized maps of others, US 2025/0265693 A1, 88-91."""

from collections.abc import Sequence
from dataclasses import dataclass

from flow_anomaly_ros.layers.resample import resample, size_of
from torch import nn, Tensor


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


def adjacent_sources(scales: int) -> tuple[tuple[int, ...], ...]:
    """Sources that are the next larger and the next smaller scale (89)."""
    return tuple(
        tuple(other for other in (index - 1, index + 1) if 0 <= other < scales)
        for index in range(scales)
    )


def fixed_sources(scales: int, others: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Sources that are the same chosen scales for all."""
    return tuple(tuple(o for o in others if o != index) for index in range(scales))


class FusionNetworks(nn.Module):
    """Coupling networks, one per scale, each fed the sum of its own and other scales' maps.

    This is the "fusion layer and convolutional layer" of US 2025/0265693 A1, paragraph 103.

    Args:
        scales: Number of scales, sorted from the largest map to the smallest.
        inputs: Channels of every map.
        hidden: Channels between the two convolutions.
        outputs: Channels of every output.
        fusion: Which scales are fused; None: adjacent_sources.
    """

    def __init__(
        self, scales: int, inputs: int, hidden: int, outputs: int, fusion: Fusion | None = None
    ) -> None:
        super().__init__()
        self.fusion = fusion or Fusion(adjacent_sources(scales))
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, hidden, 3, padding=1, padding_mode='replicate'),
                nn.ReLU(),
                nn.Conv2d(hidden, outputs, 1),
            )
            for _ in range(scales)
        )
        for network in self.networks:
            # The flow starts as the identity, whatever the seed.
            *_, weight, bias = network.parameters()
            nn.init.zeros_(weight)
            nn.init.zeros_(bias)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map a list of BxCxHxW tensors to one of Bx(outputs)xHxW tensors, sizes kept."""
        fused = self.fusion(maps)
        return [network(x) for network, x in zip(self.networks, fused, strict=True)]

    def take(self, other: 'FusionNetworks', scales: Sequence[int]) -> None:
        """Take over what networks of fewer scales have learned.

        Args:
            other: Networks with as many channels.
            scales: Index here of each of its scales.
        """
        for index, network in zip(scales, other.networks, strict=True):
            self.networks[index].load_state_dict(network.state_dict())
