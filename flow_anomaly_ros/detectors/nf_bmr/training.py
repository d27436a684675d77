# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of NF-BMR: the flow first, then the mapping, sections 3.2 and 3.3."""

import functools
import typing

from flow_anomaly_ros.detectors.base import FitReport, Progress
from flow_anomaly_ros.detectors.optimisation import (
    negative_log_likelihood,
    optimise,
    shifted_copies,
)
from flow_anomaly_ros.layers.likelihood import negative_log_density
import torch
from torch import Tensor

if typing.TYPE_CHECKING:
    from flow_anomaly_ros.detectors.nf_bmr.model import NfBmrDetector


def fit(detector: 'NfBmrDetector', images: Tensor, seed: int, progress: Progress) -> FitReport:
    """Make the source domain, then train what makes the target domain, then what maps them."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    report = FitReport()
    config = detector.config
    detector.train()
    samples = shifted_copies(images, config.copies, config.max_shift, generator)
    source = _extract(detector, samples, progress)
    train = functools.partial(
        optimise,
        samples=len(samples),
        batch=config.batch,
        generator=generator,
        report=report,
        progress=progress,
    )

    def flow_loss(chosen: Tensor) -> Tensor:
        latents, log_determinants = detector.target(source[chosen])
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
            with torch.no_grad():
                target, _ = detector.target(source[chosen])
            # The sum of both domains' mean squares.
            return detector.errors(source[chosen], target).mean((0, 2, 3)).sum()

        train(
            'mapping',
            detector.mapping,
            mapping_loss,
            steps=config.mapping_steps,
            learning_rate=config.mapping_learning_rate,
        )
    detector.eval()
    _fit_scores(detector, source)
    return report


@torch.no_grad()
def _fit_scores(detector: 'NfBmrDetector', source: Tensor) -> None:
    """Learn what is usual for good parts, of which the source domains are given."""
    scores = []
    for batch in source.split(detector.config.batch):
        target, log_determinants = detector.target(batch)
        if detector.mapping is None:
            scores.append(negative_log_density(target, log_determinants))
        else:
            scores.append(detector.errors(batch, target))
    if detector.mapping is None:
        detector.floor.fit(torch.cat(scores))
    else:
        usual = torch.cat(scores).mean((0, 2, 3))
        detector.usual.copy_(usual.clamp(min=torch.finfo(usual.dtype).tiny))


@torch.no_grad()
def _extract(detector: 'NfBmrDetector', samples: Tensor, progress: Progress) -> Tensor:
    """Fit the whitening; return the source domain of all samples: the backbone is frozen."""
    batches = samples.split(detector.config.batch)
    features = []
    for step, batch in enumerate(batches, start=1):
        features.append(detector.backbone(batch))
        progress('features', step, len(batches), None)
    joined = torch.cat(features)
    detector.whitening.fit(joined)
    return detector.components(joined)
