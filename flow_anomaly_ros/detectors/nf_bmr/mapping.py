# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks that map between the source and the target domain: section 3.3, figure 4."""

import itertools

from torch import nn, Tensor

PLAIN_LAYERS = 5


class ResidualBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each with ReLU, added to what goes in.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode='replicate'),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW to the same shape."""
        return maps + self.layers(maps)


class BidirectionalMapping(nn.Module):
    """Two networks: the target mapping (TMNN) and the source mapping (SMNN).

    Args:
        to_target: Maps BxCxHxW maps of the source domain.
        to_source: Maps BxCxHxW maps of the target domain.
    """

    def __init__(self, to_target: nn.Module, to_source: nn.Module) -> None:
        super().__init__()
        self.to_target = to_target
        self.to_source = to_source

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Map maps of each domain to the other.

        Returns:
            What the target domain should hold, judging from the source, and the reverse.
        """
        return self.to_target(source), self.to_source(target)


def residual_mapping(channels: int, hidden: int, blocks: int) -> BidirectionalMapping:
    """Residual blocks, of which both networks share the middle one: figure 4.

    Args:
        channels: Channels of both domains.
        hidden: Channels between the first and the last convolution.
        blocks: Residual blocks on either side of the shared one, n.
    """
    shared = ResidualBlock(hidden)

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            *(ResidualBlock(hidden) for _ in range(blocks)),
            shared,
            *(ResidualBlock(hidden) for _ in range(blocks)),
            nn.Conv2d(hidden, channels, 1),
        )

    return BidirectionalMapping(network(), network())


def plain_mapping(channels: int, hidden: int) -> BidirectionalMapping:
    """Five layers of 1x1 convolutions each way, as B-PFM has: table 5, row 4.

    Args:
        channels: Channels of both domains.
        hidden: Channels between the layers.
    """

    def network() -> nn.Module:
        sizes = [channels, *(hidden,) * (PLAIN_LAYERS - 1), channels]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Conv2d(inputs, outputs, 1), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return BidirectionalMapping(network(), network())
