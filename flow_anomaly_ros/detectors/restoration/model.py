# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Multi-scale restoration with a flow model (US 2025/0265693 A1)."""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from pathlib import Path
from typing import cast

from flow_anomaly_ros.detectors.base import (
    Detector,
    DetectorOutput,
    FitReport,
    no_progress,
    Progress,
)
from flow_anomaly_ros.detectors.restoration.config import PIXELS, RestorationConfig
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.coupling import CrossScaleFlow
from flow_anomaly_ros.layers.decoder import Decoder
from flow_anomaly_ros.layers.fusion import chosen, Fusion, neighbours
from flow_anomaly_ros.layers.pyramid import PixelBlocks
from flow_anomaly_ros.layers.registration import Registration
from flow_anomaly_ros.layers.resample import resize, size_of
from flow_anomaly_ros.layers.stored import StoredPoints
from flow_anomaly_ros.layers.target import TargetDistribution
from flow_anomaly_ros.layers.whitening import Whitening
import torch
from torch import nn, Tensor
from torchvision.transforms.functional import gaussian_blur

BACKBONE_COMPONENTS = 64


@dataclass(frozen=True)
class Restoration:
    """The images a score map is made from, one of each list per scale.

    Attributes:
        scaled: The N scaled images, BxCxHixWi in [0, 1], of registered parts.
        restored: Images restored from the predicted distributions, same sizes.
        second: Images restored from the target distribution, same sizes, by the name of what they
            were restored from.
    """

    scaled: list[Tensor]
    restored: list[Tensor]
    second: dict[str, list[Tensor]]


class RestorationDetector(Detector):
    """Compare restored images with images restored from the distribution good parts follow.

    images -> N scaled images -> features -> first flow model -> predicted distributions
    -> second flow model (the reverse of the first) -> inverse feature model -> restored images;
    the target distribution goes the same way back to the second images; pixel distances between
    both, summed over the scales, are the score map.

    The flow is trained towards a standard Gaussian; the target distribution is what the good
    parts' latents then follow at every position and scale (paragraph 72).
    """

    method = 'restoration'
    config_class = RestorationConfig

    def __init__(self, config: RestorationConfig) -> None:
        super().__init__(config)
        self.registration = Registration()
        if config.backbone == PIXELS:
            self.features: PixelBlocks | Backbone = PixelBlocks(config.channels, config.stride)
            components = config.components or self.features.channels
        else:
            self.features = Backbone(config.backbone, config.levels, config.stride)
            components = config.components or BACKBONE_COMPONENTS
        components = min(components, self.features.channels)
        components -= components % 2
        scales = len(config.scales)
        # A ModuleList does not tell type checkers what it holds.
        self.whitenings = cast(
            Sequence[Whitening],
            nn.ModuleList(Whitening(self.features.channels, components) for _ in range(scales)),
        )
        fused = [config.scales.index(scale) for scale in config.fused_scales]
        sources = chosen(scales, fused) if fused else neighbours(scales)
        self.fusion = Fusion(sources, config.upsampling, config.downsampling)
        flow_fusion = self.fusion if 'coupling' in config.fusion else Fusion(((),) * scales)
        self.flow = CrossScaleFlow(scales, components, config.hidden, config.blocks, flow_fusion)
        self.reverse_flow = None
        if config.reverse == 'trained':
            self.reverse_flow = CrossScaleFlow(
                scales, components, config.hidden, config.blocks, flow_fusion
            )
            self.reverse_flow.take_permutations(self.flow)
        self.decoders = nn.ModuleList(
            Decoder(components, config.channels, config.stride)
            for _ in range(scales if self.needs_decoder else 0)
        )
        self.targets = cast(
            Sequence[TargetDistribution],
            nn.ModuleList(TargetDistribution(components) for _ in range(scales)),
        )
        self.stored = cast(
            Sequence[StoredPoints],
            nn.ModuleList(StoredPoints(components) for _ in range(scales)),
        )

    @property
    def needs_decoder(self) -> bool:
        """Whether the inverse of the feature model has to be learned.

        Features that were fused are no longer the image's, even if they are blocks of pixels.
        """
        return isinstance(self.features, Backbone) or 'features' in self.config.fusion

    def load_pretrained(self, weights: Path | None) -> None:
        """Load the backbone's weights; pixel features have none."""
        if isinstance(self.features, Backbone):
            self.features.load_pretrained(weights)

    def scale_images(self, images: Tensor) -> list[Tensor]:
        """Make the N images of paragraph 66 from BxCxHxW images."""
        height, width = images.shape[-2:]
        least = self.config.stride
        scaled = [
            resize(images, (max(least, round(height * s)), max(least, round(width * s))))
            for s in self.config.scales
        ]
        if 'images' not in self.config.fusion:
            return scaled
        # The mean of the fused images is an image again.
        return [
            fused / (1 + len(sources))
            for fused, sources in zip(self.fusion(scaled), self.fusion.sources, strict=True)
        ]

    def extract(self, scaled: list[Tensor]) -> list[Tensor]:
        """Whitened features of the scaled images, BxKxhixwi, by one feature model in turn."""
        return [
            whitening(x)
            for whitening, x in zip(self.whitenings, self.raw_features(scaled), strict=True)
        ]

    def raw_features(self, scaled: list[Tensor]) -> list[Tensor]:
        """Features of the scaled images before whitening, fused if features are (88-90)."""
        features = [self.features(x) for x in scaled]
        return self.fusion(features) if 'features' in self.config.fusion else features

    def second_features(self, features: list[Tensor], latents: list[Tensor]) -> list[list[Tensor]]:
        """Features of the second images: of each of `second_images`, one per scale.

        What good parts could look like is left as it is, and what they could not is replaced;
        with `mean` every image gets the same second image.
        """
        second = []
        for kind in self.config.second_images:
            if kind == 'stored':
                second.append(
                    [
                        stored(x * whitening.unit) / whitening.unit
                        for stored, whitening, x in zip(
                            self.stored, self.whitenings, features, strict=True
                        )
                    ]
                )
            elif kind == 'nearest':
                tolerance = self.config.tolerance
                likely = [
                    target.nearest(z, tolerance)
                    for target, z in zip(self.targets, latents, strict=True)
                ]
                second.append(self.reverse(likely))
            else:
                means = [t.mean.expand_as(z) for t, z in zip(self.targets, latents, strict=True)]
                second.append(self.reverse(means))
        return second

    def reverse(self, latents: list[Tensor]) -> list[Tensor]:
        """Second flow model: latents to whitened features (69-70)."""
        return (self.reverse_flow or self.flow).inverse(latents)

    def decode(self, features: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Whitened features to images of the given sizes: paragraph 97."""
        if self.needs_decoder:
            return [
                decoder(x, size)
                for decoder, x, size in zip(self.decoders, features, sizes, strict=True)
            ]
        assert isinstance(self.features, PixelBlocks)
        return [
            self.features.inverse(whitening.inverse(x), size)
            for whitening, x, size in zip(self.whitenings, features, sizes, strict=True)
        ]

    def restore(self, images: Tensor) -> Restoration:
        """Restore images of all scales, and what they are compared with.

        Args:
            images: BxCxHxW float32 in [0, 1].
        """
        scaled = self.scale_images(self.registration(images)[0])
        sizes = [size_of(x) for x in scaled]
        restored, second = self._compared(scaled)
        return Restoration(
            scaled=scaled,
            restored=self.decode(restored, sizes),
            second={
                kind: self.decode(features, sizes)
                for kind, features in zip(self.config.second_images, second, strict=True)
            },
        )

    def _compared(self, scaled: list[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Features behind the restored images, and behind each kind of second images."""
        features = self.extract(scaled)
        latents, _ = self.flow(features)
        if self.reverse_flow is not None:
            features = self.reverse(latents)
        # Otherwise restored features are those that were extracted: the reverse of the first flow
        # model undoes it exactly.
        return features, self.second_features(features, latents)

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance per position of two BxCxHxW maps, as Bx1xHxW, per channel (paragraph 81)."""
        difference = first - second
        if self.config.metric == 'manhattan':
            return difference.abs().mean(1, keepdim=True)
        return difference.square().mean(1, keepdim=True).sqrt()

    def _summed(self, distances: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Distances of all scales, brought to one size and added (paragraphs 75-78), Bx1xHxW.

        A scale counts as much as it has positions: what a coarse one says of a place is spread
        over all that it sees at once.
        """
        shares = [(scale / self.config.scales[0]) ** 2 for scale in self.config.scales]
        return torch.stack(
            [share * resize(x, size) for share, x in zip(shares, distances, strict=True)]
        ).sum(0)

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score images; see `Detector.forward`."""
        config = self.config
        size = size_of(images)
        registered, poses = self.registration(images)
        scaled = self.scale_images(registered)
        restored, seconds = self._compared(scaled)
        distances = [torch.zeros_like(x[:, :1]) for x in scaled]
        pixel_weight = config.pixel_weight if self.needs_decoder else 1.0
        if pixel_weight > 0:
            sizes = [size_of(x) for x in scaled]
            restored_images = self.decode(restored, sizes)
            for weight, second in zip(config.second_weights, seconds, strict=True):
                for total, x, y in zip(
                    distances, restored_images, self.decode(second, sizes), strict=True
                ):
                    total += pixel_weight * weight * self.distance(x, y)
        if self.needs_decoder and config.feature_weight > 0:
            for weight, second in zip(config.second_weights, seconds, strict=True):
                for total, x, y, whitening in zip(
                    distances, restored, second, self.whitenings, strict=True
                ):
                    distance = self.distance(x * whitening.unit, y * whitening.unit)
                    total += config.feature_weight * weight * resize(distance, size_of(total))
        score_map = self._summed(distances, size)
        if config.smoothing > 0:
            # Reflection needs more pixels than it mirrors.
            reach = min(math.ceil(3 * config.smoothing), min(size) - 1)
            score_map = gaussian_blur(score_map, [2 * reach + 1] * 2, [config.smoothing] * 2)
        score_map = self.registration.undo(score_map, poses)[:, 0]
        return DetectorOutput(score_map, score_map.amax(dim=(1, 2)))

    def explain(self, images: Tensor) -> list[dict[str, Tensor]]:
        """A row per scale: the scaled image, the restored one and the second images."""
        restoration = self.restore(images)
        return [
            {
                f'scale {scale:g}': scaled,
                'restored': restored,
                **{f'second: {kind}': second[index] for kind, second in restoration.second.items()},
            }
            for index, (scale, scaled, restored) in enumerate(
                zip(self.config.scales, restoration.scaled, restoration.restored, strict=True)
            )
        ]

    def fit(self, images: Tensor, seed: int = 0, progress: Progress = no_progress) -> FitReport:
        """Train on images of good parts; see `Detector.fit`."""
        from flow_anomaly_ros.detectors.restoration.training import fit

        return fit(self, images, seed, progress)
