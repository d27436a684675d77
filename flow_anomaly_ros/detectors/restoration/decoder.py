# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoder from features to images, for feature models without an exact inverse."""

import math

from flow_anomaly_ros.layers.resample import resize
from torch import nn, Tensor


class Decoder(nn.Module):
    """Convolutional decoder: the "inverse model of the feature extraction model" of paragraph 97.

    Args:
        inputs: Channels of the features.
        channels: Channels of the images.
        stride: Stride of the features in px, a power of two.
        hidden: Channels of the first layer; each doubling of the resolution halves them.
    """

    def __init__(self, inputs: int, channels: int, stride: int, hidden: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, hidden, 1), nn.ReLU()]
        width = hidden
        for _ in range(int(math.log2(stride)) - 1):
            next_width = max(16, width // 2)
            layers += [
                nn.Conv2d(width, 4 * next_width, 3, padding=1),
                nn.PixelShuffle(2),
                nn.ReLU(),
            ]
            width = next_width
        layers += [nn.Conv2d(width, 4 * channels, 3, padding=1), nn.PixelShuffle(2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """BxCxhxw features to BxCxHxW images of the given (height, width) in px."""
        return resize(self.layers(features), size)
