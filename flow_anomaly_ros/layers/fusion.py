# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross-scale fusion: each map plus resized maps of other scales, US 2025/0265693 A1, 88-91."""

from collections.abc import Sequence
from dataclasses import dataclass

from flow_anomaly_ros.layers.resample import resample, size_of
from torch import nn, Tensor


@dataclass(frozen=True)
class Fusion:
    """Which scales are fused, and how their maps are resized (paragraph 91).

    Attributes:
        sources: For each scale, the indices of the scales that are added to it.
        upsampling: Method for maps of smaller scales, one of `resample.UPSAMPLINGS`.
        downsampling: Method for maps of larger scales, one of `resample.DOWNSAMPLINGS`.
    """

    sources: tuple[tuple[int, ...], ...]
    upsampling: str = 'bilinear'
    downsampling: str = 'average'

    def __call__(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Add to each BxCxHixWi map its sources, resized to HixWi."""
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
    """For each scale, the next larger and the next smaller one (paragraph 89)."""
    return tuple(
        tuple(other for other in (index - 1, index + 1) if 0 <= other < scales)
        for index in range(scales)
    )


def fixed_sources(scales: int, fixed: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """For each scale, the scales in `fixed` except itself."""
    return tuple(tuple(other for other in fixed if other != index) for index in range(scales))


class FusionNetworks(nn.Module):
    """Coupling networks, one per scale; each takes the fused maps of its scale.

    This is the "fusion layer and convolutional layer" of US 2025/0265693 A1, paragraph 103.

    Args:
        scales: Number of scales, sorted from the largest map to the smallest.
        inputs: Channels of each input map.
        hidden: Channels between the two convolutions.
        outputs: Channels of each output map.
        fusion: Which scales are fused; None: `adjacent_sources`.
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
            # Zero-init of the last layer: the flow starts as the identity, whatever the seed.
            *_, weight, bias = network.parameters()
            nn.init.zeros_(weight)
            nn.init.zeros_(bias)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map one BxCxHxW tensor per scale to one Bx(outputs)xHxW tensor per scale."""
        fused = self.fusion(maps)
        return [network(x) for network, x in zip(self.networks, fused, strict=True)]

    def take(self, other: 'FusionNetworks', scales: Sequence[int]) -> None:
        """Copy the weights of networks for fewer scales.

        Args:
            other: Networks with the same channels.
            scales: Index in `self` of each scale of `other`.
        """
        for index, network in zip(scales, other.networks, strict=True):
            self.networks[index].load_state_dict(network.state_dict())
