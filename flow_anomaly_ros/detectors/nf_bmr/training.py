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
import torch
from torch import Tensor
from torch.nn import functional

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
    mapping = detector.mapping
    if mapping is not None:

        def mapping_loss(chosen: Tensor) -> Tensor:
            with torch.no_grad():
                target, _ = detector.target(source[chosen])
            mapped_target, mapped_source = mapping(source[chosen], target)
            return functional.mse_loss(mapped_source, source[chosen]) + functional.mse_loss(
                mapped_target, target
            )

        train(
            'mapping',
            mapping,
            mapping_loss,
            steps=config.mapping_steps,
            learning_rate=config.mapping_learning_rate,
        )
    detector.eval()
    return report


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
    return detector.whitening(joined)
