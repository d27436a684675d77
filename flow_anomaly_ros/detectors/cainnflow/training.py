# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of CAINNFlow by maximum likelihood: section 3.1."""

import typing

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.detectors.base import FitReport, no_progress, Progress
from flow_anomaly_ros.detectors.cainnflow.model import CainnFlowDetector
from flow_anomaly_ros.detectors.checkpoints import CheckpointStore, NULL_CHECKPOINTS
from flow_anomaly_ros.detectors.training_loop import (
    negative_log_likelihood,
    observe_quantisation_ranges,
    shifted_copies,
    start_training,
    train_stage,
)
import torch
from torch import nn, Tensor


def fit(
    detector: CainnFlowDetector,
    images: Tensor,
    seed: int = 0,
    progress: Progress = no_progress,
    checkpoints: CheckpointStore = NULL_CHECKPOINTS,
    classes: Tensor | None = None,
) -> FitReport:
    """Whiten the features of all samples, then train the flows of all levels on them."""
    context = start_training(detector, seed, progress, checkpoints)
    config = detector.config
    observe_quantisation_ranges(context, detector, images, detector.backbone.extract)
    detector.backbone.fit_level_offsets(images)
    samples = shifted_copies(images, config.augmented_samples, config.max_shift, context.generator)
    features = _extract(detector, samples, progress)

    def loss_of(chosen: Tensor) -> Tensor:
        own = data_parallel.own_shard(chosen)
        return negative_log_likelihood(*detector.flow([x[own] for x in features]))

    train_stage(
        context,
        'flow',
        typing.cast(nn.Module, detector.flows),
        loss_of,
        samples=len(samples),
        batch=config.batch,
        steps=config.steps,
        learning_rate=config.learning_rate,
    )
    detector.eval()
    with torch.no_grad():
        _fit_floors(detector, features)
    return context.report


def _fit_floors(detector: CainnFlowDetector, features: list[Tensor]) -> None:
    levels = data_parallel.map_sharded(
        lambda part: detector.negative_log_likelihoods([x[part] for x in features]),
        len(features[0]),
        detector.config.batch,
    )
    for floor, level in zip(detector.floors, levels, strict=True):
        floor.fit(level)


@torch.no_grad()
def _extract(detector: CainnFlowDetector, samples: Tensor, progress: Progress) -> list[Tensor]:
    """Fit the whitening of every level; return all whitened features: the backbone is frozen."""
    levels = data_parallel.map_sharded(
        lambda part: detector.backbone.extract(samples[part]),
        len(samples),
        detector.config.batch,
        lambda step, steps: progress('features', step, steps, None),
    )
    features = []
    for whitening, level in zip(detector.whitenings, levels, strict=True):
        whitening.fit(level)
        data_parallel.broadcast(whitening)
        features.append(whitening(level))
    return features
