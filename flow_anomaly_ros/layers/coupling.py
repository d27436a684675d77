# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Coupling flow over feature maps, of one scale or of several at once."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn, Tensor
from torch.nn import functional

# Scales of a coupling stay within exp(-CLAMP) .. exp(CLAMP): the inverse stays well conditioned.
CLAMP = 1.5

# Makes a module that maps a list of Bx(inputs)xHxW tensors to one of Bx(outputs)xHxW tensors,
# called with (inputs, outputs).
NetworksFactory = Callable[[int, int], nn.Module]


class Coupling(nn.Module):
    """One coupling block: US 2025/0265693 A1, figure 10 and paragraphs 99-103; Real NVP.

    The channels of every map are permuted (fixed, random), split into two halves A and B, and

        B' = B * s1(A) + t1(A)
        A' = A * s2(B') + t2(B')

    with positive s. The coupling networks that give s and t may look at all scales at once, and yet
    the block is inverted exactly, as the halves that they look at are known at the time.

    Args:
        channels: Channels of every map; even.
        networks: Makes the coupling networks.

    Raises:
        ValueError: If the number of channels is odd.
    """

    permutation: Tensor
    inverse_permutation: Tensor

    def __init__(self, channels: int, networks: NetworksFactory) -> None:
        super().__init__()
        if channels % 2:
            msg = f'a coupling block splits channels into two halves: {channels} is odd'
            raise ValueError(msg)
        half = channels // 2
        self.first = networks(half, 2 * half)
        self.second = networks(half, 2 * half)
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
        maps, log_scales = self.transform(maps)
        return maps, [first.sum(1) + second.sum(1) for first, second in log_scales]

    def transform(self, maps: list[Tensor]) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Transform maps as `forward` does.

        Returns:
            The transformed maps, and per scale the logarithms of s1 and s2, BxC/2xHxW.
        """
        halves = [_ordered(x, self.permutation).chunk(2, dim=1) for x in maps]
        a = [pair[0] for pair in halves]
        b = [pair[1] for pair in halves]
        first = [_scale_and_shift(x) for x in self.first(a)]
        b = [
            torch.addcmul(shift, x, scale.exp()) for x, (scale, shift) in zip(b, first, strict=True)
        ]
        second = [_scale_and_shift(x) for x in self.second(b)]
        a = [
            torch.addcmul(shift, x, scale.exp())
            for x, (scale, shift) in zip(a, second, strict=True)
        ]
        log_scales = [(one[0], two[0]) for one, two in zip(first, second, strict=True)]
        return [torch.cat(pair, 1) for pair in zip(a, b, strict=True)], log_scales

    def inverse(self, maps: list[Tensor]) -> list[Tensor]:
        """Undo `forward`: the reverse flow model of paragraph 69."""
        halves = [x.chunk(2, dim=1) for x in maps]
        a = [pair[0] for pair in halves]
        b = [pair[1] for pair in halves]
        second = [_scale_and_shift(x, inverse=True) for x in self.second(b)]
        a = [(x - shift) * scale.exp() for x, (scale, shift) in zip(a, second, strict=True)]
        first = [_scale_and_shift(x, inverse=True) for x in self.first(a)]
        b = [(x - shift) * scale.exp() for x, (scale, shift) in zip(b, first, strict=True)]
        return [
            _ordered(torch.cat(pair, 1), self.inverse_permutation)
            for pair in zip(a, b, strict=True)
        ]


def _ordered(maps: Tensor, order: Tensor) -> Tensor:
    """Put the channels of BxCxHxW maps in order, and lay them out last."""
    if torch.onnx.is_in_onnx_export():
        # Runtimes keep their own layout through a convolution, but not through a choice of
        # channels, which OpenVINO does not even get right in all graphs.
        return functional.conv2d(maps, torch.eye(len(order))[order.cpu(), :, None, None].to(maps))
    # As a matrix, which is several times faster than as maps.
    positions = maps.permute(0, 2, 3, 1)
    ordered = positions.flatten(0, 2).index_select(1, order)
    return ordered.view(positions.shape).permute(0, 3, 1, 2)


def _scale_and_shift(output: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Logarithm of s, or of 1/s for the inverse, and t of what a coupling network gives."""
    raw, shift = output.chunk(2, dim=1)
    # CLAMP * tanh(raw / CLAMP), in a fifth of its time.
    sign = 1 if inverse else -1
    return torch.rsub(torch.sigmoid(raw * (sign * 2 / CLAMP)), CLAMP, alpha=2 * CLAMP), shift


class CouplingFlow(nn.Module):
    """A chain of `Coupling` blocks.

    Args:
        channels: Channels of every map; even.
        blocks: Number of coupling blocks.
        networks: Makes the coupling networks.
    """

    def __init__(self, channels: int, blocks: int, networks: NetworksFactory) -> None:
        super().__init__()
        # A ModuleList does not tell type checkers what it holds.
        self.blocks = cast(
            Sequence[Coupling],
            nn.ModuleList(Coupling(channels, networks) for _ in range(blocks)),
        )

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Features to latents; see `Coupling.forward`."""
        totals = [x.new_zeros(x.shape[0], *x.shape[2:]) for x in maps]
        for block in self.blocks:
            maps, log_determinants = block(maps)
            totals = [t + d for t, d in zip(totals, log_determinants, strict=True)]
        return maps, totals

    def latents(self, maps: list[Tensor]) -> list[Tensor]:
        """Features to latents alone."""
        for block in self.blocks:
            maps, _ = block.transform(maps)
        return maps

    def inverse(self, maps: list[Tensor]) -> list[Tensor]:
        """Latents to features."""
        for block in reversed(self.blocks):
            maps = block.inverse(maps)
        return maps

    def take_permutations(self, other: 'CouplingFlow') -> None:
        """Order channels as another flow does, so that each can learn to undo the other."""
        for own, block in zip(self.blocks, other.blocks, strict=True):
            own.permutation.copy_(block.permutation)
            own.inverse_permutation.copy_(block.inverse_permutation)
