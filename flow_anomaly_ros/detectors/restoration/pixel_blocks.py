# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Blocks of pixels as features: a feature model without weights, with an exact inverse."""

import math

from torch import nn, Tensor
from torch.nn import functional


class PixelBlocks(nn.Module):
    """Rearrange an image to non-overlapping blocks of pixels, one per position (pixel unshuffle).

    Args:
        channels: Image channels, 1 (grey) or 3 (RGB).
        stride: Side of a block in px.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels * stride**2
        # Blocks are a single level.
        self.level_channels = [self.channels]
        self.level_strides = [stride]
        # They lie where they belong.
        self.offset = 0.0, 0.0
        self.level_offsets = [self.offset]

    def extract(self, images: Tensor) -> list[Tensor]:
        """Return the features of `forward` as the only level."""
        return [self(images)]

    def fit_level_offsets(self, images: Tensor) -> None:
        """Do nothing; see `Backbone.fit_level_offsets`."""

    def merge(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return the only level; see `Backbone.merge`."""
        (blocks,) = levels
        return blocks

    def forward(self, images: Tensor) -> Tensor:
        """BxCxHxW images to Bx(C*stride^2)xceil(H/stride)xceil(W/stride) features.

        Images whose sides are not multiples of the stride are padded by repeating the last row and
        column; `inverse` crops the padding.
        """
        height, width = images.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        if any(padding):
            images = functional.pad(images, padding, mode='replicate')
        return functional.pixel_unshuffle(images, self.stride)

    def inverse(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Invert `forward` for images of the given (height, width) in px."""
        images = functional.pixel_shuffle(features, self.stride)
        return images[..., : size[0], : size[1]]

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the features of an image of the given (height, width) in px."""
        return math.ceil(size[0] / self.stride), math.ceil(size[1] / self.stride)
