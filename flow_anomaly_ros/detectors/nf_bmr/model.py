# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""NF-BMR: bidirectional mapping between pretrained features and the latents of a flow."""

from pathlib import Path
from typing import ClassVar

from flow_anomaly_ros.detectors.base import Detector, DetectorOutput
from flow_anomaly_ros.detectors.nf_bmr.config import NfBmrConfig
from flow_anomaly_ros.detectors.nf_bmr.mapping import (
    BidirectionalMapping,
    plain_mapping,
    residual_mapping,
)
from flow_anomaly_ros.detectors.pictures import normalize_to_max
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.coupling import CouplingFlow
from flow_anomaly_ros.layers.fusion import FusionNetworks
from flow_anomaly_ros.layers.likelihood import flow_nll, ScoreFloor
from flow_anomaly_ros.layers.resample import resize_and_smooth, size_of
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

    mean_error: Tensor

    stages: ClassVar = {'features': ('source',), 'flow': ('target',), 'map': ('errors',)}

    def __init__(self, config: NfBmrConfig) -> None:
        super().__init__(config)
        levels, stride = config.levels, STRIDE
        if config.backbone == PAPER_BACKBONE:
            levels, stride = levels or PAPER_LEVELS, PAPER_STRIDE
        self.backbone = Backbone(
            config.backbone,
            levels,
            config.stride or stride,
            default_strides=STRIDES,
            int8=config.int8,
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
        self.floor = ScoreFloor()
        # Mean errors over good parts, in the source and in the target domain.
        self.register_buffer('mean_error', torch.ones(2))
        self.mapping: BidirectionalMapping | None = None
        if config.mapping == 'residual':
            self.mapping = residual_mapping(channels, hidden, config.residual_blocks)
        elif config.mapping == 'plain':
            self.mapping = plain_mapping(channels, hidden)

    def load_pretrained(self, weights: Path | None) -> None:
        """Load the weights of the network that makes the source domain."""
        self.backbone.load_pretrained(weights)

    def source(self, images: Tensor) -> Tensor:
        """Source domain of BxCxHxW images: principal components of the features, BxKxhxw.

        In units of their own, of which the mean variance is 1.
        """
        return self.components(self.backbone(images))

    def components(self, features: Tensor) -> Tensor:
        """Principal components of BxCxhxw features, BxKxhxw, as the source domain has them."""
        return self.whitening.unit * self.whitening(features)

    def target(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Target domain of a source domain, BxKxhxw, and the log-determinant there, Bxhxw.

        The flow's first step scales all components to unit variance, which adds a constant to the
        log-determinant that is left out.
        """
        (latents,), (log_determinants,) = self.flow([source / self.whitening.unit])
        return latents, log_determinants

    def errors(self, source: Tensor, target: Tensor) -> Tensor:
        """Mean squares over the channels of what the mapping misses in both domains, Bx2xhxw."""
        assert self.mapping is not None
        mapped_target, mapped_source = self.mapping(source, target)
        return torch.stack(
            [(source - mapped_source).square().mean(1), (target - mapped_target).square().mean(1)],
            dim=1,
        )

    def distances(self, images: Tensor) -> dict[str, Tensor]:
        """What is abnormal, Bx1xhxw maps by name, 0 or more.

        Returns:
            The errors in the `source domain` and in the `target domain`, each in units of its mean
            over good parts; without a mapping the `likelihood`, see `layers.likelihood`.
        """
        source = self.source(images)
        target, log_determinants = self.target(source)
        if self.mapping is None:
            return {'likelihood': self.floor(flow_nll(target, log_determinants))}
        errors = self.errors(source, target) / self.mean_error[:, None, None]
        return {'source domain': errors[:, :1], 'target domain': errors[:, 1:]}

    def forward(self, images: Tensor, classes: Tensor | None = None) -> DetectorOutput:
        """Score images; see `Detector.forward`."""
        distances = torch.stack(list(self.distances(images).values())).sum(0)
        score_map = resize_and_smooth(
            distances, size_of(images), self.config.smoothing, offset=self.backbone.offset
        )
        return DetectorOutput(score_map[:, 0], score_map.amax(dim=(1, 2, 3)))

    def explain(self, images: Tensor, classes: Tensor | None = None) -> list[dict[str, Tensor]]:
        """One row: what is abnormal in each domain, brightest where it is most so."""
        return [{name: normalize_to_max(x) for name, x in self.distances(images).items()}]
