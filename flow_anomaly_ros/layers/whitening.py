# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Principal-component whitening of feature channels, fitted once, inverted by transposition."""

from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import nn, Tensor

# Components below this share of the largest standard deviation are noise of the network or the
# camera: whitening them fully would score that noise as high as a defect.
FLOOR = 0.03
# Never below this, for images or features that hardly change at all; about a grey level of 8 bit.
MIN_DEVIATION = 4e-3


class Whitening(nn.Module):
    """Rotate channels onto principal components and scale each to unit variance.

    Args:
        channels: Channels of the features.
        components: Principal components kept; all of them make the inverse exact, fewer make it
            the least-squares one.
    """

    mean: Tensor
    rotation: Tensor
    deviation: Tensor

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(channels))
        self.register_buffer('rotation', torch.eye(channels)[:, :components].clone())
        self.register_buffer('deviation', torch.ones(components))
        self._folded: nn.Conv2d | None = None
        self._unit: Tensor | None = None

    @property
    def unit(self) -> Tensor:
        """Size of each component in the features' own units, (components)x1x1, mean square 1.

        Whitened features times `unit` are as far apart as the features are, up to one factor.
        """
        if self._unit is not None:
            return self._unit
        return (self.deviation / self.deviation.square().mean().sqrt())[:, None, None]

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Fit to the channel statistics of BxCxHxW features of good images."""
        # Image by image: all of them in double precision may be more than the memory holds.
        count = features.numel() // features.shape[1]
        mean = torch.stack([one.double().flatten(1).sum(1) for one in features]).sum(0) / count
        scatter = torch.zeros(len(mean), len(mean)).to(mean)
        for one in features:
            centred = one.double().flatten(1) - mean[:, None]
            scatter += centred @ centred.T
        covariance = scatter / max(count - 1, 1)
        variance, vectors = torch.linalg.eigh(covariance)
        components = self.rotation.shape[1]
        deviation = variance.clamp(min=0).sqrt().flip(0)[:components]
        floor = max(FLOOR * deviation[0].item(), MIN_DEVIATION)
        self.mean.copy_(mean)
        self.rotation.copy_(vectors.flip(1)[:, :components])
        self.deviation.copy_(deviation.clamp(min=floor))

    # Where features hardly differ, what is left of them is far less than they and their mean.
    @autocast_disabled
    def forward(self, features: Tensor) -> Tensor:
        """BxCxHxW features to Bx(components)xHxW with zero mean and unit variance."""
        if self._folded is not None:
            return self._folded(features)
        return nn.functional.conv2d(features, *self._weight_and_bias())

    @torch.no_grad()
    def fuse_for_inference(self) -> None:
        """Precompute the convolution and `unit`; see `inference.fuse_for_inference`."""
        channels, components = self.rotation.shape
        convolution = nn.Conv2d(channels, components, 1, device=self.mean.device)
        weight, bias = self._weight_and_bias()
        convolution.load_state_dict({'weight': weight, 'bias': bias})
        self._folded = convolution
        self._unit = self.unit

    def _weight_and_bias(self) -> tuple[Tensor, Tensor]:
        """Those of the convolution, (components)xCx1x1 and (components)."""
        weight = (self.rotation / self.deviation).T
        return weight[:, :, None, None], -weight @ self.mean

    @autocast_disabled
    def inverse(self, whitened: Tensor) -> Tensor:
        """Bx(components)xHxW back to BxCxHxW features."""
        weight = self.rotation * self.deviation
        return nn.functional.conv2d(whitened, weight[:, :, None, None], self.mean)
