# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The network that perceives the time step, and the one step that it guides.

Source: TimeNet, section 2.2 and figure 1.
"""

import math
from typing import NamedTuple

from flow_anomaly_ros.detectors.timenet.unet import group_norm, UNet, UNetSize, zero_init
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import nn, Tensor
from torch.nn import functional


class Perception(NamedTuple):
    """What the network perceives in noised images.

    Attributes:
        times: The perceived time step T of every pixel, Bx1xHxW in (0, 1).
        features: For each level of the denoiser, the finest first, BxCixHixWi.
    """

    times: Tensor
    features: list[Tensor]


class TimestepPerception(nn.Module):
    """A U-Net that is not told the time: it sees how far each pixel is from a good one.

    Before any training it perceives `time` everywhere and has no features to say, so that the one
    step is that of the denoiser alone.

    Args:
        channels: Channels of the images.
        size: Its size.
        classes: How many classes of parts there are.
        denoiser: Size of the denoiser.
        time: The time step that images are noised to, in (0, 1).
    """

    def __init__(
        self, channels: int, size: UNetSize, classes: int, denoiser: UNetSize, time: float
    ) -> None:
        super().__init__()
        if len(size.channels) != len(denoiser.channels):
            msg = (
                f'a denoiser of {len(denoiser.channels)} levels cannot take features of '
                f'{len(size.channels)}'
            )
            raise ValueError(msg)
        self.network = UNet(channels, 1, size, classes=classes)
        self.adapters = nn.ModuleList(
            nn.Sequential(group_norm(own), nn.SiLU(), zero_init(nn.Conv2d(own, wanted, 1)))
            for own, wanted in zip(size.channels, denoiser.channels, strict=True)
        )
        self.bias = math.log(time / (1 - time))

    def forward(self, images: Tensor, classes: Tensor) -> Perception:
        """Perceive.

        Args:
            images: Noised, BxCxHxW.
            classes: B indices.
        """
        seen = self.network(images, classes=classes)
        features = [adapt(x) for adapt, x in zip(self.adapters, seen.features, strict=True)]
        return Perception(torch.sigmoid(seen.image + self.bias), features)


def one_step(
    denoiser: UNet,
    perception: TimestepPerception | None,
    images: Tensor,
    times: Tensor,
    classes: Tensor,
) -> tuple[Tensor, Tensor]:
    """Restore noised images in one step: X_t + (1 - T) v(X_t, t, c).

    Args:
        denoiser: Gives the velocity; its features are changed by those that are perceived.
        perception: What perceives T; None: T is t, which is equation 3.
        images: X_t, BxCxHxW.
        times: t, B in [0, 1].
        classes: c, B indices.

    Returns:
        Restored images, BxCxHxW, and T, Bx1xHxW; Bx1x1x1 where it is t.
    """
    features = None
    reached = times[:, None, None, None]
    if perception is not None:
        reached, seen = perception(images, classes)
        features = [
            functional.adaptive_avg_pool2d(x, size)
            for x, size in zip(seen, _sizes(size_of(images), len(seen)), strict=True)
        ]
    return images + (1 - reached) * denoiser(images, times, classes, features).image, reached


def _sizes(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """Height and width of each level's maps."""
    return [(size[0] >> level, size[1] >> level) for level in range(levels)]
