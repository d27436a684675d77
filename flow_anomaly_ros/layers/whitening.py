# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""PCA whitening of feature channels, inverted by the transposed rotation."""

from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import nn, Tensor

# Smaller standard deviations, relative to the largest, are raised to this. Such components are
# noise of the network or the camera, and whitening would make it as large as a defect.
MIN_RELATIVE_DEVIATION = 0.03
# Smallest standard deviation, for images or features that hardly vary: about one grey level of 8
# bits.
MIN_DEVIATION = 4e-3


class Whitening(nn.Module):
    """Rotate channels onto principal components and scale each to unit variance.

    Args:
        channels: Channels of the features.
        components: Principal components to keep. With all of them the inverse is exact, with fewer
            it is the least-squares reconstruction.
    """

    mean: Tensor
    rotation: Tensor
    deviation: Tensor

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(channels))
        self.register_buffer('rotation', torch.eye(channels)[:, :components].clone())
        self.register_buffer('deviation', torch.ones(components))
        self._fused_conv: nn.Conv2d | None = None
        self._fused_unit: Tensor | None = None

    @property
    def unit(self) -> Tensor:
        """Standard deviation of each component relative to their root mean square.

        Whitened features times `unit` have the distances of the original features, up to one
        common factor. Shape (components)x1x1.
        """
        if self._fused_unit is not None:
            return self._fused_unit
        return (self.deviation / self.deviation.square().mean().sqrt())[:, None, None]

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Fit to the channel statistics of BxCxHxW features of good images."""
        # One image at a time: double precision copies of all images may not fit into memory.
        count = features.numel() // features.shape[1]
        sums = [image_features.double().flatten(1).sum(1) for image_features in features]
        mean = torch.stack(sums).sum(0) / count
        scatter = torch.zeros(len(mean), len(mean)).to(mean)
        for image_features in features:
            centred = image_features.double().flatten(1) - mean[:, None]
            scatter += centred @ centred.T
        covariance = scatter / max(count - 1, 1)
        variance, vectors = torch.linalg.eigh(covariance)
        components = self.rotation.shape[1]
        deviation = variance.clamp(min=0).sqrt().flip(0)[:components]
        floor = max(MIN_RELATIVE_DEVIATION * deviation[0].item(), MIN_DEVIATION)
        self.mean.copy_(mean)
        self.rotation.copy_(vectors.flip(1)[:, :components])
        self.deviation.copy_(deviation.clamp(min=floor))

    # Features that hardly vary cancel against their mean: reduced precision would leave noise.
    @autocast_disabled
    def forward(self, features: Tensor) -> Tensor:
        """BxCxHxW features to Bx(components)xHxW with zero mean and unit variance."""
        if self._fused_conv is not None:
            return self._fused_conv(features)
        return nn.functional.conv2d(features, *self._weight_and_bias())

    @torch.no_grad()
    def fuse_for_inference(self) -> None:
        """Precompute the convolution and `unit`; see `inference.fuse_for_inference`."""
        channels, components = self.rotation.shape
        convolution = nn.Conv2d(channels, components, 1, device=self.mean.device)
        weight, bias = self._weight_and_bias()
        convolution.load_state_dict({'weight': weight, 'bias': bias})
        self._fused_conv = convolution
        self._fused_unit = self.unit

    def _weight_and_bias(self) -> tuple[Tensor, Tensor]:
        """Whitening as a 1x1 convolution: (components)xCx1x1 weight and (components) bias."""
        weight = (self.rotation / self.deviation).T
        return weight[:, :, None, None], -weight @ self.mean

    @autocast_disabled
    def inverse(self, whitened: Tensor) -> Tensor:
        """Bx(components)xHxW whitened features back to BxCxHxW features."""
        weight = self.rotation * self.deviation
        return nn.functional.conv2d(whitened, weight[:, :, None, None], self.mean)
