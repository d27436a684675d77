# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""U-Net of diffusion models, optionally conditioned on time and class.

Source: Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020, appendix B, which
TimeNet follows (section 3.1.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import cast, NamedTuple

from flow_anomaly_ros.layers.initialisation import zero_init
import torch
from torch import nn, Tensor
from torch.nn import functional

# Maximum number of groups of a group normalisation.
MAX_GROUPS = 32
# Minimum number of channels per group, since normalisation removes the mean of a group.
MIN_CHANNELS_PER_GROUP = 4
# Times in [0, 1] are embedded like the 1000 steps of a diffusion model.
TIME_SCALE = 1000.0
MAX_PERIOD = 10000.0


@dataclass(frozen=True)
class UNetSize:
    """Size of a U-Net.

    Attributes:
        base: Channels of the first level.
        multipliers: Channels of each level, in units of `base`; each level halves the resolution.
        attention: Number of coarsest levels with self-attention.
        blocks: Residual blocks per level of the encoder; the decoder has one more per level.
    """

    base: int
    multipliers: tuple[int, ...]
    attention: int
    blocks: int

    @property
    def divisor(self) -> int:
        """Height and width of images must be multiples of this."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def channels(self) -> list[int]:
        """Channels of each level, from fine to coarse."""
        return [self.base * multiplier for multiplier in self.multipliers]


class UNetOutput(NamedTuple):
    """Output of a U-Net.

    Attributes:
        image: Bx(outputs)xHxW.
        features: BxCixHixWi maps of each level of the decoder, from fine to coarse.
    """

    image: Tensor
    features: list[Tensor]


class UNet(nn.Module):
    """A U-Net with residual blocks and self-attention.

    Args:
        inputs: Channels of the input images.
        outputs: Channels of the output image. It is 0 before training (zero-init).
        size: Size of the network.
        timed: Whether the network is conditioned on time.
        classes: Number of classes that the network is conditioned on; 0: none.
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
        skip_channels = [channels]
        deepest = len(size.multipliers) - 1
        for level, width in enumerate(size.channels):
            attends = level > deepest - size.attention
            for _ in range(size.blocks):
                self.down.append(_ResidualBlock(channels, width, conditions, attends))
                channels = width
                skip_channels.append(channels)
            if level < deepest:
                self.down.append(_Downsample(channels))
                skip_channels.append(channels)
        self.middle = nn.ModuleList(
            _ResidualBlock(channels, channels, conditions, attends) for attends in (True, False)
        )
        for level, width in reversed([*enumerate(size.channels)]):
            attends = level > deepest - size.attention
            decoder_blocks = nn.ModuleList()
            for _ in range(size.blocks + 1):
                joined = channels + skip_channels.pop()
                decoder_blocks.append(_ResidualBlock(joined, width, conditions, attends))
                channels = width
            up.append(decoder_blocks)
        # nn.ModuleList is not generic: the cast tells type checkers what it holds.
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
            times: B times in [0, 1]; required if the network is conditioned on time.
            classes: B class indices; required if the network is conditioned on classes.
            injected: Features to add to each level of the decoder, from fine to coarse, BxCixHixWi;
                Ci as in `size.channels`.
        """
        conditions = self._conditions(times, classes)
        maps = self.first(images)
        skips = [maps]
        for layer in self.down:
            maps = layer(maps, conditions)
            skips.append(maps)
        for layer in self.middle:
            maps = layer(maps, conditions)
        features = []
        for depth, blocks in enumerate(self.up):
            for block in blocks:
                maps = block(torch.cat([maps, skips.pop()], 1), conditions)
            if injected is not None:
                maps = maps + injected[len(self.up) - 1 - depth]
            features.append(maps)
            if depth < len(self.up) - 1:
                maps = functional.interpolate(maps, scale_factor=2, mode='nearest')
        return UNetOutput(self.last(maps), features[::-1])

    def _conditions(self, times: Tensor | None, classes: Tensor | None) -> Tensor | None:
        embeddings = (self.time, times), (self.classes, classes)
        embedded = [embed(value) for embed, value in embeddings if embed is not None]
        return sum(embedded[1:], start=embedded[0]) if embedded else None


class _TimeEmbedding(nn.Module):
    """Sinusoidal embedding of times and a two-layer perceptron: B to Bx(outputs)."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.frequency_count = channels // 2
        self.layers = nn.Sequential(
            nn.Linear(2 * self.frequency_count, outputs), nn.SiLU(), nn.Linear(outputs, outputs)
        )

    def forward(self, times: Tensor) -> Tensor:
        count = self.frequency_count
        exponents = torch.linspace(0, 1, count + 1, device=times.device)[:count]
        frequencies = torch.exp(-math.log(MAX_PERIOD) * exponents)
        angles = TIME_SCALE * times[:, None] * frequencies
        return self.layers(torch.cat([angles.cos(), angles.sin()], 1))


class _ResidualBlock(nn.Module):
    """Residual block with conditioning, optionally followed by self-attention."""

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
        residual = self.first(maps)
        if self.conditions is not None and conditions is not None:
            residual = residual + self.conditions(functional.silu(conditions))[:, :, None, None]
        return self.attention(self.shortcut(maps) + self.second(residual))


class _SelfAttention(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalisation = group_norm(channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)
        self.output = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, maps: Tensor) -> Tensor:
        # ONNX export requires the dimension of heads.
        tokens = self.inputs(self.normalisation(maps)).flatten(2).mT[:, None]
        attended = functional.scaled_dot_product_attention(*tokens.chunk(3, dim=3))
        return maps + self.output(attended[:, 0].mT.unflatten(2, maps.shape[2:]))


class _Downsample(nn.Module):
    """Halve height and width by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, maps: Tensor, _conditions: Tensor | None) -> Tensor:
        return self.convolution(maps)


def group_norm(channels: int) -> nn.GroupNorm:
    """Make a group normalisation for the given number of channels."""
    groups = math.gcd(MAX_GROUPS, max(1, channels // MIN_CHANNELS_PER_GROUP), channels)
    return nn.GroupNorm(groups, channels)
