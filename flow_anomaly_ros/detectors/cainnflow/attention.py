# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Convolutional block attention module (CBAM): channel and spatial attention.

Source: CBAM (Woo et al., ECCV 2018), as used in CAINNFlow, section 3.2, equations 6 to 8.
"""

import torch
from torch import nn, Tensor

SPATIAL_KERNEL = 7


class ChannelAttention(nn.Module):
    """Channel weights from means and maxima over the map: equation 7.

    Args:
        channels: Channels of the map.
        reduction: Reduction ratio r of the hidden layer of the shared network.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.network = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW maps to BxCx1x1 weights in (0, 1)."""
        mean, maximum = maps.mean((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        return torch.sigmoid(self.network(mean) + self.network(maximum))


class SpatialAttention(nn.Module):
    """Spatial weights from means and maxima over the channels: equation 8."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW maps to Bx1xHxW weights in (0, 1)."""
        pooled = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.convolution(pooled))


class BlockAttention(nn.Module):
    """Channel attention followed by spatial attention: equation 6.

    Args:
        channels: Channels of the map.
        reduction: See `ChannelAttention`.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention()

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW maps to maps of the same shape."""
        maps = self.channel(maps) * maps
        return self.spatial(maps) * maps
