# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Multi-level feature fusion: an anomaly detector that has seen synthetic anomalies."""

from pathlib import Path
from typing import ClassVar

from flow_anomaly_ros.detectors.base import Detector, DetectorOutput
from flow_anomaly_ros.detectors.feature_fusion.config import FeatureFusionConfig, LEVELS
from flow_anomaly_ros.detectors.feature_fusion.losses import hypersphere_distance
from flow_anomaly_ros.detectors.feature_fusion.network import FusionNetwork
from flow_anomaly_ros.detectors.pictures import normalize_to_max
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.resample import resize_and_smooth, size_of
from torch import nn, Tensor


class FeatureFusionDetector(Detector):
    """Fused levels of a pretrained network, inside or outside of a hypersphere.

    images -> levels of a frozen network -> texture network and self-calibrated convolution -> fused
    features, which for good parts lie around the origin -> a score at each position. It learns from
    good parts and from anomalies made on them.
    """

    stages: ClassVar = {'features': ('backbone.extract',), 'fuse': ('network.forward',)}

    def __init__(self, config: FeatureFusionConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(config.backbone, config.levels, config.stride, int8=config.int8)
        found = len(self.backbone.levels)
        if found != LEVELS:
            msg = (
                f'backbone {config.backbone} has {found} level{"s" * (found > 1)} by default, and '
                f'{LEVELS} are needed: set `levels` to three, the finest first'
            )
            raise ValueError(msg)
        self.network = FusionNetwork(self.backbone.level_channels, config)
        # Section 2.3; softplus, so that scores are positive.
        self.score = nn.Sequential(nn.Conv2d(config.features, 1, 1), nn.Softplus())
        self.score.requires_grad_(config.score_loss)

    def load_pretrained(self, weights: Path | None) -> None:
        """Load the weights of the network that makes the features."""
        self.backbone.load_pretrained(weights)

    def features(self, images: Tensor) -> Tensor:
        """Fused features of BxCxHxW images, BxCxhxw."""
        return self.network(self.backbone.extract(images), self.backbone.grid(size_of(images)))

    def scores(self, features: Tensor) -> Tensor:
        """Score of each position of BxCxhxw fused features, Bxhxw, 0 or more."""
        if self.config.score_loss:
            return self.score(features)[:, 0]
        return hypersphere_distance(features)

    def forward(self, images: Tensor, classes: Tensor | None = None) -> DetectorOutput:
        """Score images; see `Detector.forward`."""
        scores = self.scores(self.features(images))[:, None]
        score_map = resize_and_smooth(scores, size_of(images), self.config.smoothing)
        return DetectorOutput(score_map[:, 0], score_map.amax(dim=(1, 2, 3)))

    def explain(self, images: Tensor, classes: Tensor | None = None) -> list[dict[str, Tensor]]:
        """One row: how far features are from the centre, and the scores made from them."""
        features = self.features(images)
        shown = {'distance from the centre': hypersphere_distance(features)}
        if self.config.score_loss:
            shown['score'] = self.scores(features)
        return [{caption: normalize_to_max(x[:, None]) for caption, x in shown.items()}]
