# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Coupling flow over the feature maps of one or several scales."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn, Tensor
from torch.nn import functional

# Scales of a coupling stay within exp(-CLAMP) .. exp(CLAMP), so the inverse is well conditioned.
CLAMP = 1.5

# Called with (inputs, outputs); returns a module that maps a list of Bx(inputs)xHxW tensors, one
# per scale, to a list of Bx(outputs)xHxW tensors.
NetworksFactory = Callable[[int, int], nn.Module]


class Coupling(nn.Module):
    """Affine coupling block: US 2025/0265693 A1, figure 10 and paragraphs 99-103; Real NVP.

    The channels of each map are permuted (at random, fixed), split into two halves A and B, and

        B' = B * s1(A) + t1(A)
        A' = A * s2(B') + t2(B')

    with positive s. The coupling networks that compute s and t may mix all scales. The block stays
    exactly invertible, because the inverse knows the same halves at the same time.

    Args:
        channels: Channels of each map; even.
        networks: Builds the coupling networks.

    Raises:
        ValueError: The number of channels is odd.
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
            The transformed maps, and one BxHxW log-determinant per scale. Their sum over positions
            and scales is the log-determinant of the joint Jacobian.
        """
        maps, log_scales = self.transform(maps)
        return maps, [first.sum(1) + second.sum(1) for first, second in log_scales]

    def transform(self, maps: list[Tensor]) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Transform maps as `forward` does, without summing the log-scales.

        Returns:
            The transformed maps, and per scale the logarithms of s1 and s2, BxC/2xHxW each.
        """
        halves = [_permute_channels(x, self.permutation).chunk(2, dim=1) for x in maps]
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
        log_scales = [
            (first_scale, second_scale)
            for (first_scale, _), (second_scale, _) in zip(first, second, strict=True)
        ]
        return [torch.cat(pair, 1) for pair in zip(a, b, strict=True)], log_scales

    def inverse(self, maps: list[Tensor]) -> list[Tensor]:
        """Invert `forward`: the reverse flow model of paragraph 69."""
        halves = [x.chunk(2, dim=1) for x in maps]
        a = [pair[0] for pair in halves]
        b = [pair[1] for pair in halves]
        second = [_scale_and_shift(x, inverse=True) for x in self.second(b)]
        a = [(x - shift) * scale.exp() for x, (scale, shift) in zip(a, second, strict=True)]
        first = [_scale_and_shift(x, inverse=True) for x in self.first(a)]
        b = [(x - shift) * scale.exp() for x, (scale, shift) in zip(b, first, strict=True)]
        return [
            _permute_channels(torch.cat(pair, 1), self.inverse_permutation)
            for pair in zip(a, b, strict=True)
        ]


def _permute_channels(maps: Tensor, order: Tensor) -> Tensor:
    """Permute the channels of BxCxHxW maps; the result is channels_last."""
    if torch.onnx.is_in_onnx_export():
        # As a convolution: runtimes keep their own memory format through it, but not through a
        # gather of channels, which OpenVINO computes wrongly in some graphs.
        return functional.conv2d(maps, torch.eye(len(order))[order.cpu(), :, None, None].to(maps))
    # Selecting the columns of a matrix is several times faster than selecting channels of maps.
    positions = maps.permute(0, 2, 3, 1)
    permuted = positions.flatten(0, 2).index_select(1, order)
    return permuted.view(positions.shape).permute(0, 3, 1, 2)


def _scale_and_shift(output: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Split the output of a coupling network into log s (log 1/s for the inverse) and t."""
    raw, shift = output.chunk(2, dim=1)
    # Equals CLAMP * tanh(raw / CLAMP), in a fifth of its time.
    sign = 1 if inverse else -1
    return torch.rsub(torch.sigmoid(raw * (sign * 2 / CLAMP)), CLAMP, alpha=2 * CLAMP), shift


class CouplingFlow(nn.Module):
    """A sequence of `Coupling` blocks.

    Args:
        channels: Channels of each map; even.
        blocks: Number of coupling blocks.
        networks: Builds the coupling networks.
    """

    def __init__(self, channels: int, blocks: int, networks: NetworksFactory) -> None:
        super().__init__()
        # nn.ModuleList is not generic: the cast tells type checkers what it holds.
        self.blocks = cast(
            Sequence[Coupling],
            nn.ModuleList(Coupling(channels, networks) for _ in range(blocks)),
        )

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map features to latents and log-determinants; see `Coupling.forward`."""
        totals = [x.new_zeros(x.shape[0], *x.shape[2:]) for x in maps]
        for block in self.blocks:
            maps, log_determinants = block(maps)
            totals = [t + d for t, d in zip(totals, log_determinants, strict=True)]
        return maps, totals

    def latents(self, maps: list[Tensor]) -> list[Tensor]:
        """Map features to latents, without log-determinants."""
        for block in self.blocks:
            maps, _ = block.transform(maps)
        return maps

    def inverse(self, maps: list[Tensor]) -> list[Tensor]:
        """Map latents to features."""
        for block in reversed(self.blocks):
            maps = block.inverse(maps)
        return maps

    def copy_permutations(self, other: 'CouplingFlow') -> None:
        """Copy the permutations of another flow, so that one flow can learn to invert the other."""
        for own, block in zip(self.blocks, other.blocks, strict=True):
            own.permutation.copy_(block.permutation)
            own.inverse_permutation.copy_(block.inverse_permutation)
