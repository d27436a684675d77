# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pixels as features: the feature model that needs no weights and is inverted exactly."""

import math

from torch import nn, Tensor
from torch.nn import functional


class PixelBlocks(nn.Module):
    """Image to non-overlapping blocks of pixels, one block a position.

    Args:
        channels: Image channels (1 grey, 3 RGB).
        stride: Side of a block in px.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels * stride**2

    def forward(self, images: Tensor) -> Tensor:
        """BxCxHxW images to Bx(C*stride^2)xceil(H/stride)xceil(W/stride).

        Sizes that are no multiple of the stride are filled up by repeating the last row and
        column; `inverse` cuts them off again.
        """
        height, width = images.shape[-2:]
        fill = (0, -width % self.stride, 0, -height % self.stride)
        if any(fill):
            images = functional.pad(images, fill, mode='replicate')
        return functional.pixel_unshuffle(images, self.stride)

    def inverse(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Undo `forward` for images of the given (height, width)."""
        images = functional.pixel_shuffle(features, self.stride)
        return images[..., : size[0], : size[1]]

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the features of an image of the given (height, width)."""
        return math.ceil(size[0] / self.stride), math.ceil(size[1] / self.stride)
