# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of the restoration detector: paragraphs 104-109 of US 2025/0265693 A1."""

from collections.abc import Callable
import typing

from flow_anomaly_ros.detectors.base import FitReport, Progress
from flow_anomaly_ros.layers import prior
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import nn, Tensor
from torch.nn import functional

if typing.TYPE_CHECKING:
    from flow_anomaly_ros.detectors.restoration.model import RestorationDetector

GRADIENT_NORM = 1.0
WEIGHT_DECAY = 1e-5


def fit(
    detector: 'RestorationDetector', images: Tensor, seed: int, progress: Progress
) -> FitReport:
    """Prepare samples, extract features, then constrain their distribution to the target.

    The feature model is frozen, so the features of all images and shifted copies are computed
    once.
    """
    config = detector.config
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    report = FitReport()
    detector.train()

    if config.align != 'never':
        progress('registration', 1, 1, None)
        detector.registration.fit(images, force=config.align == 'always')
        images = torch.cat([detector.registration(x)[0] for x in images.split(config.batch)])
    samples = _shifted_copies(images, config.copies, config.max_shift, generator)
    features = _extract(detector, samples, progress)

    priors = config.targets * (1 if len(config.targets) > 1 else len(features))
    # The target distributions as matrices.
    matrices = [
        prior.sample(name, tuple(x.shape[1:]), generator)
        for name, x in zip(priors, features, strict=True)
    ]
    reached = False

    def likelihood_loss(chosen: Tensor) -> Tensor:
        latents, log_determinants = detector.flow([x[chosen] for x in features])
        return torch.stack(
            [
                (prior.negative_log_density(name, z).sum(1) - d).mean() / z.shape[1]
                for name, z, d in zip(priors, latents, log_determinants, strict=True)
            ]
        ).mean()

    def similarity_loss(chosen: Tensor) -> Tensor:
        nonlocal reached
        latents, _ = detector.flow([x[chosen] for x in features])
        errors = torch.stack(
            [
                functional.mse_loss(z, matrix.expand_as(z))
                for z, matrix in zip(latents, matrices, strict=True)
            ]
        )
        reached = bool((1 / (1 + errors) > config.first_threshold).all())
        return errors.mean()

    def reverse_loss(chosen: Tensor) -> Tensor:
        wanted = [x[chosen] for x in features]
        with torch.no_grad():
            latents, _ = detector.flow(wanted)
        return torch.stack(
            [
                functional.mse_loss(x, y)
                for x, y in zip(detector.reverse(latents), wanted, strict=True)
            ]
        ).mean()

    def decoder_loss(chosen: Tensor) -> Tensor:
        scaled = detector.scale_images(samples[chosen])
        sizes = [size_of(x) for x in scaled]
        decoded = detector.decode([x[chosen] for x in features], sizes)
        return torch.stack(
            [functional.mse_loss(x, y) for x, y in zip(decoded, scaled, strict=True)]
        ).mean()

    def optimise(
        stage: str, module: nn.Module, loss_of: Callable[[Tensor], Tensor], steps: int, rate: float
    ) -> None:
        """Minimise a loss of random samples with Adam and a one-cycle learning rate."""
        optimiser = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
        losses = report.losses[stage] = []
        for step in range(1, steps + 1):
            chosen = torch.randint(0, len(samples), (config.batch,), generator=generator)
            loss = loss_of(chosen)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            progress(stage, step, steps, losses[-1])
            if reached and stage == 'flow':
                break

    flow_loss = likelihood_loss if config.constraint == 'likelihood' else similarity_loss
    optimise('flow', detector.flow, flow_loss, config.flow_steps, config.learning_rate)
    if detector.reverse_flow is not None:
        optimise(
            'reverse flow',
            detector.reverse_flow,
            reverse_loss,
            config.flow_steps,
            config.learning_rate,
        )
    if detector.needs_decoder:
        optimise(
            'decoder',
            detector.decoders,
            decoder_loss,
            config.decoder_steps,
            config.decoder_learning_rate,
        )
    _fit_targets(detector, features)
    detector.eval()
    return report


def _shifted_copies(
    images: Tensor, count: int, max_shift: int, generator: torch.Generator
) -> Tensor:
    """Images, followed by randomly shifted copies until there are `count` of them."""
    height, width = images.shape[-2:]
    padded = functional.pad(images, (max_shift,) * 4, mode='replicate')
    copies = []
    for index in range(len(images), count):
        top, left = torch.randint(0, 2 * max_shift + 1, (2,), generator=generator).tolist()
        copies.append(padded[index % len(images), :, top : top + height, left : left + width])
    return torch.cat([images, torch.stack(copies)]) if copies else images


@torch.no_grad()
def _extract(detector: 'RestorationDetector', samples: Tensor, progress: Progress) -> list[Tensor]:
    """Fit the whitening of every scale; return all whitened features, one NxKxhxw per scale."""
    batches = samples.split(detector.config.batch)
    raw: list[list[Tensor]] = [[] for _ in detector.config.scales]
    for step, batch in enumerate(batches, start=1):
        extracted = detector.raw_features(detector.scale_images(batch))
        for features, one in zip(raw, extracted, strict=True):
            features.append(one)
        progress('features', step, len(batches), None)
    whitened = []
    for whitening, features in zip(detector.whitenings, raw, strict=True):
        whitening.fit(torch.cat(features))
        whitened.append(torch.cat([whitening(x) for x in features]))
        features.clear()
    return whitened


@torch.no_grad()
def _fit_targets(detector: 'RestorationDetector', features: list[Tensor]) -> None:
    """Fit the target distribution of every scale to the latents of the training samples."""
    batches = zip(*(x.split(detector.config.batch) for x in features), strict=True)
    latents = zip(*(detector.flow(list(batch))[0] for batch in batches), strict=True)
    for target, parts in zip(detector.targets, latents, strict=True):
        target.fit(torch.cat(parts))
    for stored, whitening, scale in zip(
        detector.stored, detector.whitenings, features, strict=True
    ):
        stored.fit(scale[: detector.config.stored] * whitening.unit)
