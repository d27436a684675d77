# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the feature fusion detector."""

from dataclasses import dataclass

from flow_anomaly_ros.detectors.options import check_option

# Levels that are fused.
LEVELS = 3


@dataclass(frozen=True)
class FeatureFusionConfig:
    """Options of the method; sections, equations and tables are those of the paper.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        backbone: Network that makes the features, a torchvision name or `timm/` and a timm name.
        levels: Three levels of it, the finest first; empty: the last of stride 4, 8 and 16, which
            are layers 1 to 3 of the paper's resnet50 (section 1).
        int8: Whether the backbone computes with 8-bit whole numbers, in exported models faster; see
            `layers/quantisation.py`.
        stride: Stride in px of the fused features and of the scores.
        hidden: Channels inside the network.
        features: Channels of the fused features.
        texture: Whether the texture network refines the lower levels (section 1.1; table 4).
        texture_levels: Levels that similarities are quantised to, N of equations 1 and 2.
        pair_levels: Levels of each of two neighbours in the two-dimensional quantisation.
        self_calibration: Whether the self-calibrated convolution refines the highest level
            (section 1.2; table 4).
        calibration_rate: How much smaller the second scale of that convolution is, r (section 1.2).
        anomaly_ratio: Share of the training images that get a pseudo anomaly (table 3).
        score_loss: Whether scores are made from the features and trained by equation 5; otherwise
            the distance from the centre of the hypersphere is the score (table 4).
        consistency_loss: Whether features and scores have to be alike in the same places,
            equations 6 and 7 (table 4); needs `score_loss`.
        margin: Scores of good positions lie below this, gamma of equation 5.
        gap: Scores of abnormal positions lie this far above those of good ones, lambda.
        patches: Patches along each side of a map whose likeness is compared (section 2.4).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Training images are also seen shifted by up to this many px.
        copies: Images and shifted copies in the training set, at least.
        steps: Training steps.
        batch: Images in a step, 2 or more: batch normalisation compares them.
        learning_rate: Peak learning rate.
    """

    channels: int = 3
    backbone: str = 'resnet50'
    levels: tuple[str, ...] = ()
    int8: bool = False
    stride: int = 8
    hidden: int = 128
    features: int = 64
    texture: bool = True
    texture_levels: int = 64
    pair_levels: int = 8
    self_calibration: bool = True
    calibration_rate: int = 4
    anomaly_ratio: float = 0.5
    score_loss: bool = True
    consistency_loss: bool = True
    margin: float = 2.5
    gap: float = 5.0
    patches: int = 8
    smoothing: float = 4.0
    max_shift: int = 4
    copies: int = 80
    steps: int = 1000
    batch: int = 4
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_option(self.channels in (1, 3), 'channels', self.channels, '1 or 3')
        check_option(
            len(self.levels) in (0, LEVELS), 'levels', self.levels, 'three levels, or none'
        )
        check_option(
            self.stride in (2, 4, 8, 16, 32), 'stride', self.stride, 'one of 2, 4, 8, 16, 32'
        )
        check_option(0 <= self.anomaly_ratio <= 1, 'anomaly_ratio', self.anomaly_ratio, 'in [0, 1]')
        check_option(
            self.score_loss or not self.consistency_loss,
            'consistency_loss',
            self.consistency_loss,
            'false where score_loss is: there are no scores to compare',
        )
        for name in (
            'hidden',
            'features',
            'calibration_rate',
            'patches',
            'copies',
            'steps',
        ):
            check_option(getattr(self, name) >= 1, name, getattr(self, name), '1 or more')
        for name in ('texture_levels', 'pair_levels', 'batch'):
            check_option(getattr(self, name) >= 2, name, getattr(self, name), '2 or more')
        for name in ('margin', 'smoothing', 'max_shift'):
            check_option(getattr(self, name) >= 0, name, getattr(self, name), '0 or more')
        for name in ('gap', 'learning_rate'):
            check_option(getattr(self, name) > 0, name, getattr(self, name), 'greater than 0')
