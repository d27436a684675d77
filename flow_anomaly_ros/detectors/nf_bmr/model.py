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


class NfBmrDetector(Detector):
    """Mapping between pretrained features and the latents of a flow on them (NF-BMR, 2024).

    images -> source domain: features of a frozen network -> target domain: latents of a flow, and
    two networks that map each domain to the other. They have learned it for good parts; where they
    fail, a part is abnormal.
    """

    method = 'nf_bmr'
    config_class = NfBmrConfig
    presets: ClassVar = {'fast': {'flow_hidden': 128, 'hidden': 128}}

    def __init__(self, config: NfBmrConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(config.backbone, config.levels, config.stride)
        channels = min(config.components or self.backbone.channels, self.backbone.channels)
        channels -= channels % 2
        self.whitening = Whitening(self.backbone.channels, channels)
        self.flow = CouplingFlow(
            channels,
            config.blocks,
            lambda inputs, outputs: FusionNetworks(1, inputs, config.flow_hidden, outputs),
        )
        self.mapping: Mapping | None = None
        if config.mapping == 'residual':
            self.mapping = residual_mapping(channels, config.hidden, config.residual_blocks)
        elif config.mapping == 'plain':
            self.mapping = plain_mapping(channels, config.hidden)

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
        """What is abnormal in each domain, Bx1xhxw maps of mean squares over the channels."""
        source = self.source(images)
        target, _ = self.target(source)
        if self.mapping is None:
            return {'target': 0.5 * target.square().mean(1, keepdim=True)}
        mapped_target, mapped_source = self.mapping(source, target)
        return {
            'source': (source - mapped_source).square().mean(1, keepdim=True),
            'target': (target - mapped_target).square().mean(1, keepdim=True),
        }

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
            most = distances.amax((1, 2, 3), keepdim=True)
            row[f'{domain} domain'] = distances / most.clamp(min=torch.finfo(most.dtype).tiny)
        return [row]

    def fit(self, images: Tensor, seed: int = 0, progress: Progress = no_progress) -> FitReport:
        """Train on images of good parts; see `Detector.fit`."""
        from flow_anomaly_ros.detectors.nf_bmr.training import fit

        return fit(self, images, seed, progress)
