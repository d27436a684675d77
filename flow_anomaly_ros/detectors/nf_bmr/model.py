# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""NF-BMR: bidirectional mapping between pretrained features and the latents of a flow."""

from pathlib import Path
from typing import Any, ClassVar

from flow_anomaly_ros.detectors.base import (
    Detector,
    DetectorOutput,
    FitReport,
    no_progress,
    Progress,
)
from flow_anomaly_ros.detectors.nf_bmr.config import NfBmrConfig
from flow_anomaly_ros.detectors.nf_bmr.mapping import Mapping, plain_mapping, residual_mapping
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.coupling import CouplingFlow
from flow_anomaly_ros.layers.fusion import FusionNetworks
from flow_anomaly_ros.layers.resample import resize, size_of, smooth
from flow_anomaly_ros.layers.whitening import Whitening
import torch
from torch import Tensor

# The source domain where a configuration names none: levels and stride (section 4.2).
PAPER_BACKBONE = 'efficientnet_b5'
PAPER_LEVELS = ('features.6',)
PAPER_STRIDE = 32
# And with any other network: the last levels of these strides, of smaller images on a finer map.
STRIDES = (8, 16)
STRIDE = 16


class NfBmrDetector(Detector):
    """Mapping between pretrained features and the latents of a flow on them (NF-BMR, 2024).

    images -> source domain: features of a frozen network -> target domain: latents of a flow, and
    two networks that map each domain to the other. They have learned it for good parts; where they
    fail, a part is abnormal.
    """

    method = 'nf_bmr'
    config_class = NfBmrConfig
    presets: ClassVar = {'fast': {'flow_steps': 150, 'mapping_steps': 100, 'residual_blocks': 1}}

    def __init__(self, config: NfBmrConfig) -> None:
        super().__init__(config)
        levels, stride = config.levels, STRIDE
        if config.backbone == PAPER_BACKBONE:
            levels, stride = levels or PAPER_LEVELS, PAPER_STRIDE
        self.backbone = Backbone(
            config.backbone, levels, config.stride or stride, default_strides=STRIDES
        )
        channels = min(config.components or self.backbone.channels, self.backbone.channels)
        channels -= channels % 2
        self.whitening = Whitening(self.backbone.channels, channels)
        flow_hidden, hidden = config.flow_hidden or channels, config.hidden or channels
        self.flow = CouplingFlow(
            channels,
            config.blocks,
            lambda inputs, outputs: FusionNetworks(1, inputs, flow_hidden, outputs),
        )
        self.mapping: Mapping | None = None
        if config.mapping == 'residual':
            self.mapping = residual_mapping(channels, hidden, config.residual_blocks)
        elif config.mapping == 'plain':
            self.mapping = plain_mapping(channels, hidden)

    @classmethod
    def takes_weights(cls, config: Any) -> bool:
        """It is always a network that makes the source domain."""
        return True

    def load_pretrained(self, weights: Path | None) -> None:
        """Load the weights of the network that makes the source domain."""
        self.backbone.load_pretrained(weights)

    def source(self, images: Tensor) -> Tensor:
        """Source domain of BxCxHxW images: whitened features, BxKxhxw."""
        return self.whitening(self.backbone(images))

    def target(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Target domain of a source domain, BxKxhxw, and the log-determinant there, Bxhxw."""
        (latents,), (log_determinants,) = self.flow([source])
        return latents, log_determinants

    def distances(self, images: Tensor) -> dict[str, Tensor]:
        """What is abnormal in each domain, Bx1xhxw maps by name.

        Returns:
            Mean squares over the channels of what the mapping misses in the `source` and in the
            `target` domain, and the negative log-density per channel, up to a constant and any real
            number, as `likelihood`.
        """
        source = self.source(images)
        target, log_determinants = self.target(source)
        parts = {}
        if self.mapping is not None:
            mapped_target, mapped_source = self.mapping(source, target)
            parts['source'] = (source - mapped_source).square().mean(1, keepdim=True)
            parts['target'] = (target - mapped_target).square().mean(1, keepdim=True)
        if self.mapping is None or self.config.likelihood:
            half_square = 0.5 * target.square().mean(1, keepdim=True)
            parts['likelihood'] = half_square - log_determinants[:, None] / target.shape[1]
        return parts

    def forward(self, images: Tensor) -> DetectorOutput:
        """Score images; see `Detector.forward`."""
        distances = torch.stack(list(self.distances(images).values())).sum(0)
        score_map = resize(distances, size_of(images))
        if self.config.smoothing > 0:
            score_map = smooth(score_map, self.config.smoothing)
        return DetectorOutput(score_map[:, 0], score_map.amax(dim=(1, 2, 3)))

    def explain(self, images: Tensor) -> list[dict[str, Tensor]]:
        """One row: what is abnormal in each domain, brightest where it is most so."""
        row = {}
        for domain, distances in self.distances(images).items():
            least, most = (x[:, None, None, None] for x in distances.flatten(1).aminmax(dim=1))
            span = (most - least).clamp(min=torch.finfo(most.dtype).tiny)
            caption = domain if domain == 'likelihood' else f'{domain} domain'
            row[caption] = (distances - least) / span
        return [row]

    def fit(self, images: Tensor, seed: int = 0, progress: Progress = no_progress) -> FitReport:
        """Train on images of good parts; see `Detector.fit`."""
        from flow_anomaly_ros.detectors.nf_bmr.training import fit

        return fit(self, images, seed, progress)
