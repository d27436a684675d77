# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the feature fusion detector."""

from dataclasses import dataclass

from flow_anomaly_ros.detectors.options import check_option, check_ranges, option

# Levels that are fused.
LEVELS = 3


@dataclass(frozen=True)
class FeatureFusionConfig:
    """Options of the method; sections, equations and tables are those of the paper.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        backbone: Network that extracts the features, a torchvision name or `timm/` and a timm name.
        levels: Three levels of the backbone, the finest first; empty: the last of stride 4, 8
            and 16, which are layers 1 to 3 of the paper's resnet50 (section 1).
        int8: Whether the backbone is quantised to int8 before training, which makes exported
            models faster.
        stride: Stride in px of the fused features and of the scores.
        hidden: Hidden channels of the fusion network.
        features: Channels of the fused features.
        texture: Whether the texture network refines the lower levels (section 1.1; table 4).
        texture_levels: Number of levels that similarities are quantised to, N of equations 1 and 2.
        pair_levels: Number of levels per neighbour in the two-dimensional quantisation.
        self_calibration: Whether the self-calibrated convolution refines the highest level
            (section 1.2; table 4).
        calibration_rate: Downsampling rate of the self-calibrated convolution, r (section 1.2).
        anomaly_ratio: Share of the training images that get a synthetic anomaly (table 3).
        score_loss: Whether scores are made from the features and trained by equation 5; otherwise
            the distance from the centre of the hypersphere is the score (table 4).
        consistency_loss: Whether features and scores have to be alike in the same places,
            equations 6 and 7 (table 4); needs `score_loss`.
        margin: Scores of good positions lie below this, gamma of equation 5.
        gap: Scores of abnormal positions lie this far above those of good ones, lambda.
        patches: Patches along each side of a map whose similarities are compared (section 2.4).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Largest shift in px of the shifted copies.
        augmented_samples: Minimum number of images and shifted copies in the training set.
        steps: Training steps.
        batch: Batch size, 2 or more because of batch normalisation.
        learning_rate: Peak learning rate.
    """

    channels: int = option(3, choices=(1, 3))
    backbone: str = 'resnet50'
    levels: tuple[str, ...] = ()
    int8: bool = False
    stride: int = option(8, choices=(2, 4, 8, 16, 32))
    hidden: int = option(128, minimum=1)
    features: int = option(64, minimum=1)
    texture: bool = True
    texture_levels: int = option(64, minimum=2)
    pair_levels: int = option(8, minimum=2)
    self_calibration: bool = True
    calibration_rate: int = option(4, minimum=1)
    anomaly_ratio: float = option(0.5, minimum=0, maximum=1)
    score_loss: bool = True
    consistency_loss: bool = True
    margin: float = option(2.5, minimum=0)
    gap: float = option(5.0, above=0)
    patches: int = option(8, minimum=1)
    smoothing: float = option(4.0, minimum=0)
    max_shift: int = option(4, minimum=0)
    augmented_samples: int = option(80, minimum=1)
    steps: int = option(1000, minimum=1)
    batch: int = option(4, minimum=2)
    learning_rate: float = option(1e-3, above=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_option(
            len(self.levels) in (0, LEVELS), 'levels', self.levels, 'three levels, or none'
        )
        check_option(
            self.score_loss or not self.consistency_loss,
            'consistency_loss',
            self.consistency_loss,
            'false if score_loss is false, since there are then no scores to compare',
        )
