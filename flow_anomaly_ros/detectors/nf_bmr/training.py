# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of NF-BMR: the flow first, then the mapping, sections 3.2 and 3.3."""

import functools

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.detectors.base import FitReport, no_progress, Progress
from flow_anomaly_ros.detectors.checkpoints import CheckpointStore, NULL_CHECKPOINTS
from flow_anomaly_ros.detectors.nf_bmr.model import NfBmrDetector
from flow_anomaly_ros.detectors.training_loop import (
    negative_log_likelihood,
    observe_quantisation_ranges,
    shifted_copies,
    start_training,
    train_stage,
)
from flow_anomaly_ros.layers.likelihood import flow_nll
import torch
from torch import Tensor


def fit(
    detector: NfBmrDetector,
    images: Tensor,
    seed: int = 0,
    progress: Progress = no_progress,
    checkpoints: CheckpointStore = NULL_CHECKPOINTS,
    classes: Tensor | None = None,
) -> FitReport:
    """Make the source domain, then train what makes the target domain, then what maps them."""
    context = start_training(detector, seed, progress, checkpoints)
    config = detector.config
    observe_quantisation_ranges(context, detector, images, detector.backbone.extract)
    detector.backbone.fit_level_offsets(images)
    samples = shifted_copies(images, config.augmented_samples, config.max_shift, context.generator)
    source = _extract(detector, samples, progress)
    train = functools.partial(
        train_stage,
        context,
        samples=len(samples),
        batch=config.batch,
    )

    def flow_loss(chosen: Tensor) -> Tensor:
        latents, log_determinants = detector.target(source[data_parallel.own_shard(chosen)])
        return negative_log_likelihood([latents], [log_determinants])

    train(
        'flow',
        detector.flow,
        flow_loss,
        steps=config.flow_steps,
        learning_rate=config.flow_learning_rate,
    )
    if detector.mapping is not None:

        def mapping_loss(chosen: Tensor) -> Tensor:
            own = source[data_parallel.own_shard(chosen)]
            with torch.no_grad():
                target, _ = detector.target(own)
            # The sum of both domains' mean squares.
            return detector.errors(own, target).mean((0, 2, 3)).sum()

        train(
            'mapping',
            detector.mapping,
            mapping_loss,
            steps=config.mapping_steps,
            learning_rate=config.mapping_learning_rate,
        )
    detector.eval()
    _fit_scores(detector, source)
    return context.report


@torch.no_grad()
def _fit_scores(detector: NfBmrDetector, source: Tensor) -> None:
    """Learn the mean error over good parts, whose source domains are given."""

    def score(part: slice) -> list[Tensor]:
        target, log_determinants = detector.target(source[part])
        if detector.mapping is None:
            return [flow_nll(target, log_determinants)]
        return [detector.errors(source[part], target)]

    (scores,) = data_parallel.map_sharded(score, len(source), detector.config.batch)
    if detector.mapping is None:
        detector.floor.fit(scores)
    else:
        mean_error = scores.mean((0, 2, 3))
        detector.mean_error.copy_(mean_error.clamp(min=torch.finfo(mean_error.dtype).tiny))


@torch.no_grad()
def _extract(detector: NfBmrDetector, samples: Tensor, progress: Progress) -> Tensor:
    """Fit the whitening; return the source domain of all samples: the backbone is frozen."""
    (features,) = data_parallel.map_sharded(
        lambda part: [detector.backbone(samples[part])],
        len(samples),
        detector.config.batch,
        lambda step, steps: progress('features', step, steps, None),
    )
    detector.whitening.fit(features)
    data_parallel.broadcast(detector.whitening)
    return detector.components(features)
