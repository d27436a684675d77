# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Spaces that the generative model works in: latents of an autoencoder, or pixels.

Source: TimeNet, encoder and decoder in figure 1.
"""

from flow_anomaly_ros.layers.whitening import Whitening
from torch import nn, Tensor
from torch.nn import functional


class PixelSpace(nn.Module):
    """Pixels scaled to [-1, 1], as a space without weights.

    Args:
        channels: Channels of the images.

    Attributes:
        channels: Channels of the latents.
        stride: Stride of the latents in px, 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = 1

    def encode(self, images: Tensor) -> Tensor:
        """BxCxHxW images in [0, 1] to latents of the same shape."""
        return 2 * images - 1

    def decode(self, latents: Tensor) -> Tensor:
        """BxCxHxW latents to BxCxHxW images in [0, 1]."""
        return (latents + 1) / 2


class Autoencoder(nn.Module):
    """Linear autoencoder: whitened principal components of blocks of pixels.

    No linear encoder and decoder have a smaller mean squared error (Baldi and Hornik, "Neural
    networks and principal component analysis", Neural Networks 2, 1989). They are computed, not
    trained. Whitening makes noise affect weak components, such as fine texture, as much as strong
    ones.

    Args:
        channels: Channels of the images.
        block: Side of a block in px.
        latents: Maximum number of components.

    Attributes:
        channels: Channels of the latents.
        stride: Stride of the latents in px.
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
        """Bx(channels)x(H/stride)x(W/stride) latents to BxCxHxW images."""
        return functional.pixel_shuffle(self.whitening.inverse(latents), self.stride)

    def fit(self, images: Tensor) -> None:
        """Fit the components to NxCxHxW images in [0, 1]."""
        self.whitening.fit(functional.pixel_unshuffle(images, self.stride))
