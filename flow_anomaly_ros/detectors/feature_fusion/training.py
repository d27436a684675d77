# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of the feature fusion detector with synthetic anomalies: section 2."""

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.data.synthetic_anomalies import synthesize_anomaly
from flow_anomaly_ros.detectors.base import FitReport, no_progress, Progress
from flow_anomaly_ros.detectors.checkpoints import CheckpointStore, NULL_CHECKPOINTS
from flow_anomaly_ros.detectors.feature_fusion.losses import (
    consistency_loss,
    feature_loss,
    hypersphere_distance,
    score_loss,
)
from flow_anomaly_ros.detectors.feature_fusion.model import FeatureFusionDetector
from flow_anomaly_ros.detectors.training_loop import (
    observe_quantisation_ranges,
    shifted_copies,
    start_training,
    train_stage,
)
from flow_anomaly_ros.layers.resample import resize, size_of
import torch
from torch import Tensor

# A position is abnormal when more than this share of its pixels is.
ABNORMAL_SHARE = 0.25


def fit(
    detector: FeatureFusionDetector,
    images: Tensor,
    seed: int = 0,
    progress: Progress = no_progress,
    checkpoints: CheckpointStore = NULL_CHECKPOINTS,
    classes: Tensor | None = None,
) -> FitReport:
    """Train the fusion network and the scores on good images and such with synthetic anomalies."""
    context = start_training(detector, seed, progress, checkpoints)
    config = detector.config
    observe_quantisation_ranges(context, detector, images, detector.backbone.extract)
    samples = shifted_copies(images, config.augmented_samples, config.max_shift, context.generator)

    def loss_of(chosen: Tensor) -> Tensor:
        batch, mask = synthesize_anomalies(samples[chosen], config.anomaly_ratio, context.generator)
        return loss(detector, batch, mask)

    train_stage(
        context,
        'training',
        detector,
        loss_of,
        samples=len(samples),
        batch=config.batch,
        steps=config.steps,
        learning_rate=config.learning_rate,
    )
    detector.eval()
    return context.report


def synthesize_anomalies(
    images: Tensor, ratio: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Make synthetic anomalies on some of BxCxHxW images in [0, 1]: section 2.1.

    Args:
        images: The images.
        ratio: Share of them that get one, on average (table 3).
        generator: Makes all choices; on the CPU.

    Returns:
        The images, and bool masks, BxHxW, of what was changed.
    """
    spoiled, masks = [], []
    for image, chance in zip(images, torch.rand(len(images), generator=generator), strict=True):
        if chance < ratio:
            image, mask = synthesize_anomaly(image, generator)
        else:
            mask = torch.zeros(size_of(image), dtype=torch.bool, device=image.device)
        spoiled.append(image)
        masks.append(mask)
    return torch.stack(spoiled), torch.stack(masks)


def loss(detector: FeatureFusionDetector, images: Tensor, mask: Tensor) -> Tensor:
    """Sum of the losses that are chosen, equation 8 with all weights 1.

    Under torchrun each process makes the features of its share of the images, and all of them
    compute the loss of all images: it compares positions of one image with those of others.

    Args:
        detector: What is trained.
        images: BxCxHxW in [0, 1].
        mask: BxHxW bool, true where abnormal.
    """
    config = detector.config
    own_features = detector.features(images[data_parallel.shard(len(images))])
    features = data_parallel.all_gather(own_features, len(images))
    share = resize(mask[:, None].to(features), size_of(features))[:, 0]
    mask = share > ABNORMAL_SHARE
    total = feature_loss(hypersphere_distance(features), mask)
    if config.score_loss:
        scores = data_parallel.all_gather(detector.scores(own_features), len(images))
        total = total + score_loss(scores, mask, config.margin, config.gap)
        if config.consistency_loss:
            total = total + consistency_loss(features, scores, mask, config.patches)
    return total
