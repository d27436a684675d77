# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks that map between the source and the target domain: section 3.3, figure 4."""

from collections.abc import Sequence
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
    """Networks that map each domain to the other: target (TMNN) and source mapping (SMNN).

    Args:
        first: First layers of both, target mapping first.
        shared: Layers in their middle that they share.
        last: Last layers of both.
    """

    def __init__(
        self, first: Sequence[nn.Module], shared: nn.Module, last: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.first = nn.ModuleList(first)
        # Held once: a model file has no tensor twice.
        self.shared = shared
        self.last = nn.ModuleList(last)

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Map BxCxHxW maps of each domain to the other.

        Returns:
            What the target domain should hold, judging from the source, and the reverse.
        """
        to_target, to_source = (
            last(self.shared(first(maps)))
            for first, last, maps in zip(self.first, self.last, (source, target), strict=True)
        )
        return to_target, to_source


def residual_mapping(channels: int, hidden: int, blocks: int) -> BidirectionalMapping:
    """Residual blocks, of which both networks share the middle one: figure 4.

    Args:
        channels: Channels of both domains.
        hidden: Channels between the first and the last convolution.
        blocks: Residual blocks on either side of the shared one, n.
    """

    def side() -> list[nn.Module]:
        return [ResidualBlock(hidden) for _ in range(blocks)]

    return BidirectionalMapping(
        [nn.Sequential(nn.Conv2d(channels, hidden, 1), *side()) for _ in range(2)],
        ResidualBlock(hidden),
        [nn.Sequential(*side(), nn.Conv2d(hidden, channels, 1)) for _ in range(2)],
    )


def plain_mapping(channels: int, hidden: int) -> BidirectionalMapping:
    """Five layers of 1x1 convolutions each way, as B-PFM has: table 5, row 4.

    Args:
        channels: Channels of both domains.
        hidden: Channels between the layers.
    """

    def layers(sizes: Sequence[int]) -> list[nn.Module]:
        return [
            layer
            for inputs, outputs in itertools.pairwise(sizes)
            for layer in (nn.Conv2d(inputs, outputs, 1), nn.ReLU())
        ]

    sizes = (channels, *(hidden,) * (PLAIN_LAYERS - 1))
    return BidirectionalMapping(
        [nn.Sequential(*layers(sizes)) for _ in range(2)],
        nn.Identity(),
        [nn.Conv2d(hidden, channels, 1) for _ in range(2)],
    )
