# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The U-Net of diffusion models: a denoiser that knows time and class, or a network without both.

Source: Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020, appendix B, which
TimeNet follows (section 3.1.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import cast, NamedTuple

import torch
from torch import nn, Tensor
from torch.nn import functional

# Groups of a group normalisation at most, and their channels at least: what all channels of a group
# have in common is lost.
GROUPS = 32
CHANNELS_OF_GROUP = 4
# Times of 0 to 1 are embedded as diffusion's 1000 steps are.
TIME_SCALE = 1000.0
MAX_PERIOD = 10000.0


@dataclass(frozen=True)
class UNetSize:
    """How large a U-Net is.

    Attributes:
        base: Channels of the first level.
        multipliers: Channels of each level, in units of `base`; each level halves the map.
        attention: How many of the coarsest levels have self-attention.
        blocks: Residual blocks of a level on the way down; there is one more on the way up.
    """

    base: int
    multipliers: tuple[int, ...]
    attention: int
    blocks: int

    @property
    def divisor(self) -> int:
        """Height and width must be multiples of it."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def channels(self) -> list[int]:
        """Channels of each level, the finest first."""
        return [self.base * multiplier for multiplier in self.multipliers]


class UNetOutput(NamedTuple):
    """What a U-Net makes of an image.

    Attributes:
        image: Bx(outputs)xHxW.
        features: Of each level on the way up, the finest first, BxCixHixWi.
    """

    image: Tensor
    features: list[Tensor]


class UNet(nn.Module):
    """A U-Net with residual blocks and self-attention.

    Args:
        inputs: Channels of the image.
        outputs: Channels of the result, which is 0 before any training.
        size: Its size.
        timed: Whether it is told a time.
        classes: How many classes it is told of; 0: none.
    """

    def __init__(
        self, inputs: int, outputs: int, size: UNetSize, timed: bool = False, classes: int = 0
    ) -> None:
        super().__init__()
        self.size = size
        conditions = 4 * size.base if timed or classes else 0
        self.time = _TimeEmbedding(size.base, conditions) if timed else None
        self.classes = nn.Embedding(classes, conditions) if classes else None
        self.first = nn.Conv2d(inputs, size.base, 3, padding=1)
        self.down = nn.ModuleList()
        up: list[nn.ModuleList] = []
        channels = size.base
        skipped = [channels]
        deepest = len(size.multipliers) - 1
        for level, wanted in enumerate(size.channels):
            attends = level > deepest - size.attention
            for _ in range(size.blocks):
                self.down.append(_Stage(channels, wanted, conditions, attends))
                channels = wanted
                skipped.append(channels)
            if level < deepest:
                self.down.append(_Half(channels))
                skipped.append(channels)
        self.middle = nn.ModuleList(
            _Stage(channels, channels, conditions, attends) for attends in (True, False)
        )
        for level, wanted in reversed([*enumerate(size.channels)]):
            attends = level > deepest - size.attention
            stages = nn.ModuleList()
            for _ in range(size.blocks + 1):
                stages.append(_Stage(channels + skipped.pop(), wanted, conditions, attends))
                channels = wanted
            up.append(stages)
        # A ModuleList does not tell type checkers what it holds.
        self.up = cast(Sequence[nn.ModuleList], nn.ModuleList(up))
        self.last = nn.Sequential(
            group_norm(channels), nn.SiLU(), zero_init(nn.Conv2d(channels, outputs, 3, padding=1))
        )

    def forward(
        self,
        images: Tensor,
        times: Tensor | None = None,
        classes: Tensor | None = None,
        injected: Sequence[Tensor] | None = None,
    ) -> UNetOutput:
        """Run the network.

        Args:
            images: BxCxHxW; H and W are multiples of `size.divisor`.
            times: B, in [0, 1], where the network is timed.
            classes: B indices, where it knows classes.
            injected: Added to the maps of each level on the way up, the finest first: BxCixHixWi,
                Ci those of `size.channels`.
        """
        conditions = self._conditions(times, classes)
        maps = self.first(images)
        skipped = [maps]
        for layer in self.down:
            maps = layer(maps, conditions)
            skipped.append(maps)
        for layer in self.middle:
            maps = layer(maps, conditions)
        features = []
        for depth, stages in enumerate(self.up):
            for stage in stages:
                maps = stage(torch.cat([maps, skipped.pop()], 1), conditions)
            if injected is not None:
                maps = maps + injected[len(self.up) - 1 - depth]
            features.append(maps)
            if depth < len(self.up) - 1:
                maps = functional.interpolate(maps, scale_factor=2, mode='nearest')
        return UNetOutput(self.last(maps), features[::-1])

    def _conditions(self, times: Tensor | None, classes: Tensor | None) -> Tensor | None:
        embeddings = (self.time, times), (self.classes, classes)
        known = [embed(given) for embed, given in embeddings if embed is not None]
        return sum(known[1:], start=known[0]) if known else None


class _TimeEmbedding(nn.Module):
    """Sines and cosines of a time, then two layers."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.waves = channels // 2
        self.layers = nn.Sequential(
            nn.Linear(2 * self.waves, outputs), nn.SiLU(), nn.Linear(outputs, outputs)
        )

    def forward(self, times: Tensor) -> Tensor:
        exponents = torch.linspace(0, 1, self.waves + 1, device=times.device)[: self.waves]
        frequencies = torch.exp(-math.log(MAX_PERIOD) * exponents)
        angles = TIME_SCALE * times[:, None] * frequencies
        return self.layers(torch.cat([angles.cos(), angles.sin()], 1))


class _Stage(nn.Module):
    """A residual block, and self-attention if wanted."""

    def __init__(self, inputs: int, outputs: int, conditions: int, attends: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(
            group_norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.conditions = nn.Linear(conditions, outputs) if conditions else None
        self.second = nn.Sequential(
            group_norm(outputs), nn.SiLU(), zero_init(nn.Conv2d(outputs, outputs, 3, padding=1))
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention = _SelfAttention(outputs) if attends else nn.Identity()

    def forward(self, maps: Tensor, conditions: Tensor | None) -> Tensor:
        changed = self.first(maps)
        if self.conditions is not None and conditions is not None:
            changed = changed + self.conditions(functional.silu(conditions))[:, :, None, None]
        return self.attention(self.shortcut(maps) + self.second(changed))


class _SelfAttention(nn.Module):
    """Every position looks at all others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalisation = group_norm(channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)
        self.output = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, maps: Tensor) -> Tensor:
        # With a dimension of heads, without which it cannot be exported.
        tokens = self.inputs(self.normalisation(maps)).flatten(2).mT[:, None]
        attended = functional.scaled_dot_product_attention(*tokens.chunk(3, dim=3))
        return maps + self.output(attended[:, 0].mT.unflatten(2, maps.shape[2:]))


class _Half(nn.Module):
    """Half the height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, maps: Tensor, _conditions: Tensor | None) -> Tensor:
        return self.convolution(maps)


def group_norm(channels: int) -> nn.GroupNorm:
    """A group normalisation of so many channels."""
    groups = math.gcd(GROUPS, max(1, channels // CHANNELS_OF_GROUP), channels)
    return nn.GroupNorm(groups, channels)


def zero_init(convolution: nn.Conv2d) -> nn.Conv2d:
    """Let a convolution give zeros until it has learned."""
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution
