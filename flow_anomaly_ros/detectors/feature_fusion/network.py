# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Network that fuses three levels of a backbone: figure 1."""

from collections.abc import Sequence

from flow_anomaly_ros.detectors.feature_fusion.batch_norm import BatchNorm
from flow_anomaly_ros.detectors.feature_fusion.config import FeatureFusionConfig
from flow_anomaly_ros.detectors.feature_fusion.texture import (
    PyramidTexture,
    SCALES,
    TextureEnhancement,
)
from flow_anomaly_ros.layers.resample import resize, size_of
import torch
from torch import nn, Tensor


def _convolution(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation; keeps height and width."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        BatchNorm(outputs),
    )


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    """1x1 convolution, batch normalisation and ReLU."""
    return nn.Sequential(_convolution(inputs, outputs), nn.ReLU())


class TextureNetwork(nn.Module):
    """Statistical texture network for the low levels: section 1.1, figures 1 to 3.

    Args:
        channels: Channels of the map.
        levels: See `TextureEnhancement`.
        pair_levels: See `PyramidTexture`.
    """

    def __init__(self, channels: int, levels: int, pair_levels: int) -> None:
        super().__init__()
        self.enhancement = TextureEnhancement(channels, levels)
        self.middle = _layer(2 * channels, channels)
        self.pyramid = PyramidTexture(channels, pair_levels)
        self.last = _layer((2 + len(SCALES)) * channels, channels)

    def forward(self, low: Tensor) -> Tensor:
        """BxCxHxW fused low levels to texture features of the same shape."""
        first = self.enhancement(low)
        textures = self.pyramid(self.middle(torch.cat([low, first], 1)))
        return self.last(torch.cat([low, first, textures], 1))


class SelfCalibration(nn.Module):
    """Self-calibrated convolution: section 1.2, figure 1.

    The gate is computed at a coarser scale, which enlarges its receptive field.

    Args:
        channels: Channels of the map.
        rate: Downsampling rate r of the coarser scale.
    """

    def __init__(self, channels: int, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.own, self.small, self.last = (_convolution(channels, channels, 3) for _ in range(3))

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW maps to maps of the same shape."""
        size = size_of(maps)
        small = resize(maps, (-(-size[0] // self.rate), -(-size[1] // self.rate)))
        gate = torch.sigmoid(maps + resize(self.small(small), size))
        return self.last(self.own(maps) * gate)


class FusionNetwork(nn.Module):
    """Fuse three levels of a backbone to one feature map: section 1, figure 1.

    Args:
        level_channels: Channels of each level, from fine to coarse.
        config: Options of the method.
    """

    def __init__(self, level_channels: Sequence[int], config: FeatureFusionConfig) -> None:
        super().__init__()
        hidden = config.hidden
        first, second, third = level_channels
        self.low = _layer(first + second, hidden)
        self.texture = (
            TextureNetwork(hidden, config.texture_levels, config.pair_levels)
            if config.texture
            else nn.Identity()
        )
        self.high = _layer(third, hidden)
        self.calibration = (
            SelfCalibration(hidden, config.calibration_rate)
            if config.self_calibration
            else nn.Identity()
        )
        self.last = nn.Sequential(_layer(2 * hidden, hidden), nn.Conv2d(hidden, config.features, 1))

    def forward(self, levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Fuse levels.

        Args:
            levels: Three BxCixhixwi maps, from fine to coarse.
            size: (height, width) of the result in positions.

        Returns:
            BxCxheightxwidth features.
        """
        first, second, third = levels
        low = self.low(torch.cat([resize(first, size), resize(second, size)], 1))
        high = self.calibration(self.high(third))
        return self.last(torch.cat([self.texture(low), resize(high, size)], 1))
