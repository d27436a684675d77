# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of NF-BMR: the flow first, then the mapping, sections 3.2 and 3.3."""

import functools
import typing

from flow_anomaly_ros import distributed
from flow_anomaly_ros.detectors.base import FitReport, Progress
from flow_anomaly_ros.detectors.checkpoints import Checkpoints
from flow_anomaly_ros.detectors.optimisation import (
    begin,
    learn_ranges,
    negative_log_likelihood,
    optimise,
    shifted_copies,
)
from flow_anomaly_ros.layers.likelihood import negative_log_density
import torch
from torch import Tensor

if typing.TYPE_CHECKING:
    from flow_anomaly_ros.detectors.nf_bmr.model import NfBmrDetector


def fit(
    detector: 'NfBmrDetector',
    images: Tensor,
    seed: int,
    progress: Progress,
    checkpoints: Checkpoints,
) -> FitReport:
    """Make the source domain, then train what makes the target domain, then what maps them."""
    run = begin(detector, seed, progress, checkpoints)
    config = detector.config
    learn_ranges(run, detector, images, detector.backbone.extract)
    samples = shifted_copies(images, config.copies, config.max_shift, run.generator)
    source = _extract(detector, samples, progress)
    train = functools.partial(
        optimise,
        run,
        samples=len(samples),
        batch=config.batch,
    )

    def flow_loss(chosen: Tensor) -> Tensor:
        latents, log_determinants = detector.target(source[distributed.own(chosen)])
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
            own = source[distributed.own(chosen)]
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
    return run.report


@torch.no_grad()
def _fit_scores(detector: 'NfBmrDetector', source: Tensor) -> None:
    """Learn what is usual for good parts, of which the source domains are given."""

    def score(part: slice) -> list[Tensor]:
        target, log_determinants = detector.target(source[part])
        if detector.mapping is None:
            return [negative_log_density(target, log_determinants)]
        return [detector.errors(source[part], target)]

    (scores,) = distributed.in_shares(score, len(source), detector.config.batch)
    if detector.mapping is None:
        detector.floor.fit(scores)
    else:
        usual = scores.mean((0, 2, 3))
        detector.usual.copy_(usual.clamp(min=torch.finfo(usual.dtype).tiny))


@torch.no_grad()
def _extract(detector: 'NfBmrDetector', samples: Tensor, progress: Progress) -> Tensor:
    """Fit the whitening; return the source domain of all samples: the backbone is frozen."""
    (features,) = distributed.in_shares(
        lambda part: [detector.backbone(samples[part])],
        len(samples),
        detector.config.batch,
        lambda step, steps: progress('features', step, steps, None),
    )
    detector.whitening.fit(features)
    distributed.agree(detector.whitening)
    return detector.components(features)
