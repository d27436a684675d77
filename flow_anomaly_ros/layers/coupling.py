# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Coupling flow over feature maps of several scales, fused inside the coupling networks."""

from collections.abc import Sequence
from typing import cast

from flow_anomaly_ros.layers.fusion import Fusion, neighbours
import torch
from torch import nn, Tensor

# Scales of a coupling stay within exp(-CLAMP) .. exp(CLAMP): the inverse stays well conditioned.
CLAMP = 1.5


class FusionNetworks(nn.Module):
    """One convolutional network per scale, each fed the sum of its own and other scales' maps.

    This is the "fusion layer and convolutional layer" of US 2025/0265693 A1, paragraph 103.

    Args:
        scales: Number of scales, sorted from the largest map to the smallest.
        inputs: Channels of every map.
        hidden: Channels between the two convolutions.
        outputs: Channels of every output.
        fusion: Which scales are fused; None: neighbours.
    """

    def __init__(
        self, scales: int, inputs: int, hidden: int, outputs: int, fusion: Fusion | None = None
    ) -> None:
        super().__init__()
        self.fusion = fusion or Fusion(neighbours(scales))
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


class CrossScaleCoupling(nn.Module):
    """One block of the first flow model: figure 10 and paragraphs 99-103 of the patent.

    The channels of every scale are permuted (fixed, random), split into two halves A and B, and

        B' = B * s1(fused A) + t1(fused A)
        A' = A * s2(fused B') + t2(fused B')

    with positive s. Every scale's output depends on its neighbours, yet the block is inverted
    exactly, as the halves that are fused are known at the time.

    Args:
        scales: Number of scales.
        channels: Channels of every map; even.
        hidden: Hidden channels of the coupling networks.
        fusion: Which scales are fused; None: neighbours.

    Raises:
        ValueError: If the number of channels is odd.
    """

    permutation: Tensor
    inverse_permutation: Tensor

    def __init__(
        self, scales: int, channels: int, hidden: int, fusion: Fusion | None = None
    ) -> None:
        super().__init__()
        if channels % 2:
            msg = f'a coupling block splits channels into two halves: {channels} is odd'
            raise ValueError(msg)
        half = channels // 2
        self.first = FusionNetworks(scales, half, hidden, 2 * half, fusion)
        self.second = FusionNetworks(scales, half, hidden, 2 * half, fusion)
        permutation = torch.randperm(channels)
        self.register_buffer('permutation', permutation)
        self.register_buffer('inverse_permutation', torch.argsort(permutation))

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Transform maps towards the latent space.

        Args:
            maps: One BxCxHxW tensor per scale.

        Returns:
            The transformed maps, and per scale the log-determinant at each position (BxHxW):
            their sum over positions and scales is that of the block's joint Jacobian.
        """
        halves = [x[:, self.permutation].chunk(2, dim=1) for x in maps]
        a = [pair[0] for pair in halves]
        b = [pair[1] for pair in halves]
        first = [_scale_and_shift(x) for x in self.first(a)]
        b = [x * scale.exp() + shift for x, (scale, shift) in zip(b, first, strict=True)]
        second = [_scale_and_shift(x) for x in self.second(b)]
        a = [x * scale.exp() + shift for x, (scale, shift) in zip(a, second, strict=True)]
        log_determinants = [
            one[0].sum(1) + two[0].sum(1) for one, two in zip(first, second, strict=True)
        ]
        return [torch.cat(pair, 1) for pair in zip(a, b, strict=True)], log_determinants

    def inverse(self, maps: list[Tensor]) -> list[Tensor]:
        """Undo `forward`: the reverse flow model of paragraph 69."""
        halves = [x.chunk(2, dim=1) for x in maps]
        a = [pair[0] for pair in halves]
        b = [pair[1] for pair in halves]
        second = [_scale_and_shift(x) for x in self.second(b)]
        a = [(x - shift) * (-scale).exp() for x, (scale, shift) in zip(a, second, strict=True)]
        first = [_scale_and_shift(x) for x in self.first(a)]
        b = [(x - shift) * (-scale).exp() for x, (scale, shift) in zip(b, first, strict=True)]
        return [torch.cat(pair, 1)[:, self.inverse_permutation] for pair in zip(a, b, strict=True)]


def _scale_and_shift(output: Tensor) -> tuple[Tensor, Tensor]:
    raw, shift = output.chunk(2, dim=1)
    return CLAMP * torch.tanh(raw / CLAMP), shift


class CrossScaleFlow(nn.Module):
    """A chain of `CrossScaleCoupling` blocks.

    Args:
        scales: Number of scales.
        channels: Channels of every map; even.
        hidden: Hidden channels of the coupling networks.
        blocks: Number of coupling blocks.
        fusion: Which scales are fused; None: neighbours.
    """

    def __init__(
        self, scales: int, channels: int, hidden: int, blocks: int, fusion: Fusion | None = None
    ) -> None:
        super().__init__()
        # A ModuleList does not tell type checkers what it holds.
        self.blocks = cast(
            Sequence[CrossScaleCoupling],
            nn.ModuleList(
                CrossScaleCoupling(scales, channels, hidden, fusion) for _ in range(blocks)
            ),
        )

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Features to latents; see `CrossScaleCoupling.forward`."""
        totals = [x.new_zeros(x.shape[0], *x.shape[2:]) for x in maps]
        for block in self.blocks:
            maps, log_determinants = block(maps)
            totals = [t + d for t, d in zip(totals, log_determinants, strict=True)]
        return maps, totals

    def inverse(self, maps: list[Tensor]) -> list[Tensor]:
        """Latents to features."""
        for block in reversed(self.blocks):
            maps = block.inverse(maps)
        return maps

    def take(self, other: 'CrossScaleFlow', scales: Sequence[int]) -> None:
        """Take over what a flow of fewer scales has learned.

        Args:
            other: A flow with as many blocks, channels and hidden channels.
            scales: Index here of each of its scales.
        """
        self.take_permutations(other)
        for own, block in zip(self.blocks, other.blocks, strict=True):
            for mine, theirs in ((own.first, block.first), (own.second, block.second)):
                for index, network in zip(scales, theirs.networks, strict=True):
                    mine.networks[index].load_state_dict(network.state_dict())

    def take_permutations(self, other: 'CrossScaleFlow') -> None:
        """Order channels as another flow does, so that each can learn to undo the other."""
        for own, block in zip(self.blocks, other.blocks, strict=True):
            own.permutation.copy_(block.permutation)
            own.inverse_permutation.copy_(block.inverse_permutation)
