# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of CAINNFlow by maximum likelihood: section 3.1."""

import typing

from flow_anomaly_ros.detectors.base import FitReport, Progress
from flow_anomaly_ros.detectors.optimisation import (
    negative_log_likelihood,
    optimise,
    shifted_copies,
)
import torch
from torch import nn, Tensor

if typing.TYPE_CHECKING:
    from flow_anomaly_ros.detectors.cainnflow.model import CainnFlowDetector


def fit(detector: 'CainnFlowDetector', images: Tensor, seed: int, progress: Progress) -> FitReport:
    """Whiten the features of all samples, then train the flows of all levels on them."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    report = FitReport()
    config = detector.config
    detector.train()
    samples = shifted_copies(images, config.copies, config.max_shift, generator)
    features = _extract(detector, samples, progress)

    def loss_of(chosen: Tensor) -> Tensor:
        return negative_log_likelihood(*detector.flow([x[chosen] for x in features]))

    optimise(
        'flow',
        typing.cast(nn.Module, detector.flows),
        loss_of,
        samples=len(samples),
        batch=config.batch,
        steps=config.steps,
        learning_rate=config.learning_rate,
        generator=generator,
        report=report,
        progress=progress,
    )
    detector.eval()
    with torch.no_grad():
        _fit_floors(detector, features)
    return report


def _fit_floors(detector: 'CainnFlowDetector', features: list[Tensor]) -> None:
    batches = zip(*(x.split(detector.config.batch) for x in features), strict=True)
    parts = zip(*(detector.unlikeliness(list(batch)) for batch in batches), strict=True)
    for floor, level in zip(detector.floors, parts, strict=True):
        floor.fit(torch.cat(level))


@torch.no_grad()
def _extract(detector: 'CainnFlowDetector', samples: Tensor, progress: Progress) -> list[Tensor]:
    """Fit the whitening of every level; return all whitened features: the backbone is frozen."""
    batches = samples.split(detector.config.batch)
    raw: list[list[Tensor]] = [[] for _ in detector.backbone.levels]
    for step, batch in enumerate(batches, start=1):
        for level, x in zip(raw, detector.backbone.extract(batch), strict=True):
            level.append(x)
        progress('features', step, len(batches), None)
    features = []
    for whitening, level in zip(detector.whitenings, raw, strict=True):
        joined = torch.cat(level)
        level.clear()
        whitening.fit(joined)
        features.append(whitening(joined))
    return features
