# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Time step perception network, and the one-step restoration that it guides.

Source: TimeNet, section 2.2 and figure 1.
"""

import math
from typing import NamedTuple

from flow_anomaly_ros.detectors.timenet.unet import group_norm, UNet, UNetSize
from flow_anomaly_ros.layers.initialisation import zero_init
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import nn, Tensor
from torch.nn import functional


class Perception(NamedTuple):
    """Output of the time step perception network.

    Attributes:
        times: Estimated time step T of each pixel, Bx1xHxW in (0, 1).
        features: Features for each level of the denoiser, from fine to coarse, BxCixHixWi.
    """

    times: Tensor
    features: list[Tensor]


class TimestepPerception(nn.Module):
    """U-Net that estimates the time step of each pixel: how far it is from a good one.

    The network is not conditioned on time. Before training it estimates `time` at each pixel and
    all its features are 0 (zero-init), so the one-step restoration is that of the denoiser alone.

    Args:
        channels: Channels of the images.
        size: Size of this network.
        classes: Number of classes of parts.
        denoiser: Size of the denoiser.
        time: Time step that images are noised to, in (0, 1).

    Raises:
        ValueError: The denoiser has another number of levels.
    """

    def __init__(
        self, channels: int, size: UNetSize, classes: int, denoiser: UNetSize, time: float
    ) -> None:
        super().__init__()
        if len(size.channels) != len(denoiser.channels):
            msg = (
                f'a denoiser with {len(denoiser.channels)} levels cannot take features of '
                f'{len(size.channels)} levels'
            )
            raise ValueError(msg)
        self.network = UNet(channels, 1, size, classes=classes)
        self.adapters = nn.ModuleList(
            nn.Sequential(group_norm(own), nn.SiLU(), zero_init(nn.Conv2d(own, target, 1)))
            for own, target in zip(size.channels, denoiser.channels, strict=True)
        )
        self.bias = math.log(time / (1 - time))

    def forward(self, images: Tensor, classes: Tensor) -> Perception:
        """Estimate the time step of each pixel.

        Args:
            images: Noised images, BxCxHxW.
            classes: B class indices.
        """
        output = self.network(images, classes=classes)
        features = [adapt(x) for adapt, x in zip(self.adapters, output.features, strict=True)]
        return Perception(torch.sigmoid(output.image + self.bias), features)


def one_step(
    denoiser: UNet,
    perception: TimestepPerception | None,
    images: Tensor,
    times: Tensor,
    classes: Tensor,
) -> tuple[Tensor, Tensor]:
    """Restore noised images in one step: X_t + (1 - T) v(X_t, t, c).

    Args:
        denoiser: Predicts the velocity v; the features of `perception` are added to its own.
        perception: Estimates T; None: T = t, which is equation 3.
        images: Noised images X_t, BxCxHxW.
        times: B times t in [0, 1].
        classes: B class indices c.

    Returns:
        Restored images, BxCxHxW, and T, Bx1xHxW; Bx1x1x1 if `perception` is None.
    """
    features = None
    pixel_times = times[:, None, None, None]
    if perception is not None:
        pixel_times, perceived = perception(images, classes)
        sizes = _level_sizes(size_of(images), len(perceived))
        features = [
            functional.adaptive_avg_pool2d(x, size)
            for x, size in zip(perceived, sizes, strict=True)
        ]
    velocity = denoiser(images, times, classes, features).image
    return images + (1 - pixel_times) * velocity, pixel_times


def _level_sizes(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """(height, width) of the maps of each level."""
    return [(size[0] >> level, size[1] >> level) for level in range(levels)]
