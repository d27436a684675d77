# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The spaces that a generative model works in: an autoencoder's latents, or the pixels themselves.

Source: encoder and decoder of TimeNet's figure 1.
"""

from flow_anomaly_ros.layers.whitening import Whitening
from torch import nn, Tensor
from torch.nn import functional


class PixelSpace(nn.Module):
    """The pixels themselves, between -1 and 1; nothing is learned.

    Args:
        channels: Channels of the images.

    Attributes:
        channels: Channels of the latents.
        stride: Pixels of an image, in both directions, for each position of the latents.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = 1

    def encode(self, images: Tensor) -> Tensor:
        """BxCxHxW images in [0, 1] to latents of the same shape."""
        return 2 * images - 1

    def decode(self, latents: Tensor) -> Tensor:
        """BxCxHxW latents to images."""
        return (latents + 1) / 2


class Autoencoder(nn.Module):
    """Principal components of blocks of pixels, each of unit variance.

    No other linear encoder and decoder make a smaller mean square error (Baldi & Hornik, "Neural
    networks and principal component analysis", Neural Networks 2, 1989). They are computed, not
    trained, and noise takes as much from a weak component, such as fine texture, as from a strong
    one.

    Args:
        channels: Channels of the images.
        block: Side of a block in px.
        latents: Components at most.

    Attributes:
        channels: Channels of the latents.
        stride: Pixels of an image, in both directions, for each position of the latents.
    """

    def __init__(self, channels: int, block: int, latents: int) -> None:
        super().__init__()
        values = channels * block**2
        self.channels = min(latents, values)
        self.stride = block
        self.whitening = Whitening(values, self.channels)

    def encode(self, images: Tensor) -> Tensor:
        """BxCxHxW images in [0, 1] to Bx(channels)x(H/stride)x(W/stride)."""
        return self.whitening(functional.pixel_unshuffle(images, self.stride))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents of `encode` to BxCxHxW images."""
        return functional.pixel_shuffle(self.whitening.inverse(latents), self.stride)

    def fit(self, images: Tensor) -> None:
        """Find the components of NxCxHxW images in [0, 1]."""
        self.whitening.fit(functional.pixel_unshuffle(images, self.stride))
