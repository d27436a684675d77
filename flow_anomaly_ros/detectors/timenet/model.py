# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""TimeNet: one step of a class-conditional rectified flow, guided by what perceives the time."""

from pathlib import Path
from typing import ClassVar, NamedTuple

from flow_anomaly_ros.detectors.base import Detector, DetectorOutput
from flow_anomaly_ros.detectors.timenet.autoencoder import Autoencoder, PixelSpace
from flow_anomaly_ros.detectors.timenet.class_means import ClassMeans
from flow_anomaly_ros.detectors.timenet.config import TimeNetConfig
from flow_anomaly_ros.detectors.timenet.perception import one_step, TimestepPerception
from flow_anomaly_ros.detectors.timenet.reconstruction_distance import (
    pooled_maximum,
    ReconstructionDistance,
)
from flow_anomaly_ros.detectors.timenet.rectified_flow import euler, interpolate, Velocity
from flow_anomaly_ros.detectors.timenet.unet import UNet, UNetSize
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import Tensor
from torch.nn import functional

# Side of the noise that images get when they are inspected; on larger ones it is repeated.
NOISE_SIDE = 128


class Restored(NamedTuple):
    """What comes of restoring images.

    Attributes:
        noised: The images with noise, BxCxHxW.
        times: The time step that is perceived at every position, Bx1xhxw in (0, 1); where none is,
            that of the noise, Bx1x1x1.
        images: Restored images, BxCxHxW.
    """

    noised: Tensor
    times: Tensor
    images: Tensor


class TimeNetDetector(Detector):
    """One model for many classes of parts (TimeNet, Jiang et al. 2025).

    images -> noised to a fixed time step -> restored in one step of a flow from noise to good parts
    of the class, guided by a network that perceives how far from a good part each place is -> score
    map from how images and restored images differ.
    """

    noise: Tensor

    stages: ClassVar = {
        'features': ('backbone.extract',),
        'restore': ('restore',),
    }

    def __init__(self, config: TimeNetConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(config.backbone, default_strides=config.strides, int8=config.int8)
        if len(self.backbone.levels) != len(config.strides):
            msg = (
                f'{config.backbone} has {len(self.backbone.levels)} levels of the strides '
                f'{list(config.strides)}: remove the others from `strides`, or choose another '
                'backbone'
            )
            raise ValueError(msg)
        self.space: Autoencoder | PixelSpace = (
            PixelSpace(config.channels)
            if config.space == 'pixel'
            else Autoencoder(config.channels, config.block, config.latents)
        )
        channels = self.space.channels
        size = UNetSize(config.base, config.multipliers, config.attention, config.blocks)
        self.denoiser = UNet(channels, channels, size, timed=True, classes=self.class_count)
        self.perception = (
            TimestepPerception(channels, size, self.class_count, size, config.time)
            if config.perception
            else None
        )
        weights = config.level_weights
        self.difference = ReconstructionDistance(
            weights if len(weights) > 1 else weights * len(config.strides),
            config.pixel_weight,
            config.smoothing,
        )
        self.class_means = ClassMeans(self.class_count, self.backbone.channels)
        self.register_buffer('noise', torch.randn(channels, NOISE_SIDE, NOISE_SIDE))

    def load_pretrained(self, weights: Path | None) -> None:
        """Load the weights of the network that images are compared in."""
        self.backbone.load_pretrained(weights)

    def padded(self, images: Tensor) -> Tensor:
        """BxCxHxW images with borders repeated, to a size that latents and denoiser take."""
        multiple = self.space.stride * self.denoiser.size.divisor
        height, width = size_of(images)
        padding = (0, -width % multiple, 0, -height % multiple)
        return functional.pad(images, padding, mode='replicate')

    def encode(self, images: Tensor) -> Tensor:
        """Latents of BxCxHxW images."""
        return self.space.encode(self.padded(images))

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Images of (height, width) from latents of `encode`."""
        return self.space.decode(latents)[..., : size[0], : size[1]]

    def velocity(self, classes: Tensor) -> Velocity:
        """Velocity of latents of these classes, B indices."""
        return lambda latents, times: self.denoiser(latents, times, classes).image

    def restore(self, images: Tensor, classes: Tensor) -> Restored:
        """Restore images.

        Args:
            images: BxCxHxW in [0, 1].
            classes: B indices.
        """
        latents, size = self.encode(images), size_of(images)
        times = latents.new_full(latents.shape[:1], self.config.time)
        noised = interpolate(self._noise_for(latents), latents, times)
        if self.config.steps > 1:
            restored = euler(self.velocity(classes), noised, self.config.time, self.config.steps)
            times = times[:, None, None, None]
        else:
            restored, times = one_step(self.denoiser, self.perception, noised, times, classes)
        return Restored(self.decode(noised, size), times, self.decode(restored, size))

    def _noise_for(self, latents: Tensor) -> Tensor:
        """The same noise for every image, so that its scores can be had again."""
        rows, columns = (-(-side // NOISE_SIDE) for side in size_of(latents))
        height, width = size_of(latents)
        return self.noise.repeat(1, rows, columns)[None, :, :height, :width]

    def forward(self, images: Tensor, classes: Tensor | None = None) -> DetectorOutput:
        """Score images; see `Detector.forward`."""
        levels = self.backbone.extract(images)
        known = self._known(levels, classes)
        restored = self.restore(images, known).images
        score_map = self.difference(
            images,
            restored,
            levels,
            self.backbone.extract(restored),
            self.backbone.level_offsets,
        )
        image_score = pooled_maximum(score_map, self.config.pooling)
        return DetectorOutput(score_map[:, 0], image_score, known)

    def _known(self, levels: list[Tensor], classes: Tensor | None) -> Tensor:
        """Estimate the classes that are not given."""
        estimated = self.class_means(levels)
        return estimated if classes is None else torch.where(classes < 0, estimated, classes)

    def explain(self, images: Tensor, classes: Tensor | None = None) -> list[dict[str, Tensor]]:
        """One row: the image with noise, restored, and the time that was perceived."""
        noised, times, restored = self.restore(
            images, self._known(self.backbone.extract(images), classes)
        )
        pictures = {'noised': noised, 'restored': restored}
        return [pictures if self.perception is None else {**pictures, 'time': times}]
