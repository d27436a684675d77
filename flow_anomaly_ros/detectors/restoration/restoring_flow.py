# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Restoring flow: carries the features of an image straight to those of a good part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flow_anomaly_ros.layers.inference import channels_last
from flow_anomaly_ros.layers.initialisation import zero_init
from flow_anomaly_ros.layers.resample import resize, size_of
import torch
from torch import nn, Tensor
from torch.nn import functional

# Additional channels at the coarse resolution.
COARSE_CHANNELS = 32
# Lower bounds of the channels' standard deviations, relative to their median and absolute: channels
# that hardly vary in good parts would outweigh all others in spoiled ones.
MIN_RELATIVE_DEVIATION = 0.1
MIN_DEVIATION = 1e-3
NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Level:
    """A map of features that the flow restores.

    Attributes:
        channels: Its channels.
        is_fine: Whether its resolution is at least twice the grid's: each block of 2x2 positions is
            then packed into channels.
    """

    channels: int
    is_fine: bool

    @property
    def packed_channels(self) -> int:
        """Channels of the level on the grid."""
        return 4 * self.channels if self.is_fine else self.channels


class RestoringOutput(NamedTuple):
    """Output of the restoring flow.

    Attributes:
        velocity: BxCxhxw, from the image's features to those of a good part, in standard deviations
            of good parts per unit of time.
        time_logits: Bx1x2hx2w logits of the remaining time, the share of the way that is left.
    """

    velocity: Tensor
    time_logits: Tensor


class RestoringFlow(nn.Module):
    """A rectified flow between features of spoiled images and those of the same images unspoiled.

    Its velocity is trained along the straight lines between both (Liu et al., "Flow straight and
    fast", ICLR 2023, equation 1), so one step from time 0 restores an image. Like TimeNet's
    perceptive network (section 2.2) it estimates as well how much of the way is left, here at each
    position: 1 where an image is spoiled, 0 where it looks like a good part.

    The velocity and the time come from one U-Net of two resolutions, which sees the features of all
    levels of all scales, standardised and brought to one grid.

    Args:
        levels: Of all scales.
        conditions: Channels of the condition, such as the distances from a memory bank; 0: none.
        width: Channels of the network.
    """

    mean: Tensor
    deviation: Tensor
    condition_unit: Tensor

    def __init__(self, levels: Sequence[Level], conditions: int, width: int) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.channels = sum(level.packed_channels for level in levels)
        self.register_buffer('mean', torch.zeros(self.channels, 1, 1))
        self.register_buffer('deviation', torch.ones(self.channels, 1, 1))
        self.register_buffer('condition_unit', torch.ones(conditions, 1, 1))
        coarse = width + COARSE_CHANNELS
        # One channel more for the time.
        self.first = nn.Conv2d(self.channels + conditions + 1, width, 1)
        self.fine = _ResidualBlock(width)
        self.down = nn.Conv2d(width, coarse, 2, stride=2)
        self.coarse = nn.Sequential(_ResidualBlock(coarse), _ResidualBlock(coarse))
        self.up = nn.ConvTranspose2d(coarse, width, 2, stride=2)
        self.joined = _ResidualBlock(width)
        # Four channels for the time, which has twice the grid's rows and columns.
        self.last = zero_init(nn.Conv2d(width, self.channels + 4, 1))

    @torch.no_grad()
    def fit_statistics(self, packed: Tensor) -> None:
        """Fit means and standard deviations of all channels; forget the unit of the condition.

        Args:
            packed: BxCxhxw features of good parts, of `on_grid`.
        """
        self.mean.copy_(packed.mean((0, 2, 3))[:, None, None])
        deviation = packed.std((0, 2, 3), correction=0)
        floor = max(MIN_RELATIVE_DEVIATION * deviation.median().item(), MIN_DEVIATION)
        self.deviation.copy_(deviation.clamp(min=floor)[:, None, None])
        self.condition_unit.fill_(1)

    def pack(self, levels: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Bring levels to one grid and standardise them; see `on_grid`."""
        return (self.on_grid(levels, grid) - self.mean) / self.deviation

    def on_grid(self, levels: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Bring levels to one grid.

        Args:
            levels: BxCixhixwi features, one map per level.
            grid: (rows, columns).

        Returns:
            BxCxhxw, the channels of all levels.
        """
        fine = grid[0] * 2, grid[1] * 2
        return torch.cat(
            [
                functional.pixel_unshuffle(resize(x, fine), 2) if level.is_fine else resize(x, grid)
                for level, x in zip(self.levels, levels, strict=True)
            ],
            1,
        )

    def unpack(self, packed: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return features of `pack` to levels of the given (rows, columns), resized if need be."""
        levels = self.split(packed * self.deviation + self.mean)
        return [
            resize(functional.pixel_shuffle(x, 2) if level.is_fine else x, size)
            for level, x, size in zip(self.levels, levels, sizes, strict=True)
        ]

    def condition(self, distances: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Bring Bx1xhixwi distances to the grid, divided by their mean over the training pairs."""
        return torch.cat([resize(x, grid) for x in distances], 1) / self.condition_unit

    def forward(
        self, packed: Tensor, times: Tensor, condition: Tensor | None = None
    ) -> RestoringOutput:
        """Estimate velocity and remaining time.

        Args:
            packed: BxCxhxw features of `pack`.
            times: B times in [0, 1]: 0 for images as they are.
            condition: BxKxhxw of `condition`; None for a flow without one.
        """
        height, width = size_of(packed)
        times = torch.zeros_like(packed[:, :1]) + times[:, None, None, None]
        inputs = [packed, times] if condition is None else [packed, times, condition]
        maps = channels_last(torch.cat(inputs, 1))
        # The network halves the grid once.
        padding = (0, width % 2, 0, height % 2)
        if any(padding):
            maps = functional.pad(maps, padding, mode='replicate')
        maps = self.fine(self.first(maps))
        maps = self.joined(maps + self.up(self.coarse(self.down(maps))))
        outputs = self.last(maps)[..., :height, :width]
        return RestoringOutput(
            outputs[:, : self.channels],
            functional.pixel_shuffle(outputs[:, self.channels :], 2),
        )

    def split(self, packed: Tensor) -> list[Tensor]:
        """Split BxCxhxw maps on the grid into those of each level, BxCixhxw."""
        return list(packed.split([level.packed_channels for level in self.levels], 1))


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions behind a normalisation of the channels; the identity before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, maps: Tensor) -> Tensor:
        centred = maps - maps.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        normalised = centred * torch.rsqrt(variance + NORM_EPSILON) * self.weight + self.bias
        return maps + self.second(functional.gelu(self.first(normalised)))
