# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Convolutional block attention: where and what to look at in a feature map.

Source: CBAM (Woo et al., ECCV 2018), as used in CAINNFlow, section 3.2, equations 6 to 8.
"""

import torch
from torch import nn, Tensor

SPATIAL_KERNEL = 7


class ChannelAttention(nn.Module):
    """Weigh channels by their means and maxima over the map: equation 7.

    Args:
        channels: Channels of the map.
        reduction: Factor r that the shared network's hidden layer is narrower by.
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
        """BxCxHxW to weights of BxCx1x1 in (0, 1)."""
        mean, most = maps.mean((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        return torch.sigmoid(self.network(mean) + self.network(most))


class SpatialAttention(nn.Module):
    """Weigh positions by their means and maxima over the channels: equation 8."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW to weights of Bx1xHxW in (0, 1)."""
        pooled = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.convolution(pooled))


class BlockAttention(nn.Module):
    """Channel attention, then spatial attention: equation 6; shapes are kept.

    Args:
        channels: Channels of the map.
        reduction: See `ChannelAttention`.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention()

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW to the same shape."""
        maps = self.channel(maps) * maps
        return self.spatial(maps) * maps
