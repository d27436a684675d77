# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the trainings of all methods share: the loop, and more samples from few images."""

from collections.abc import Callable

from flow_anomaly_ros import distributed
from flow_anomaly_ros.detectors.base import Detector, FitReport, Progress
from flow_anomaly_ros.layers.likelihood import negative_log_density
import torch
from torch import nn, Tensor
from torch.nn import functional

GRADIENT_NORM = 1.0
WEIGHT_DECAY = 1e-5


def begin(
    detector: Detector, images: Tensor, seed: int
) -> tuple[Tensor, torch.Generator, FitReport]:
    """Begin a training: seed all random numbers, make samples.

    Args:
        detector: What is trained, with the options `copies` and `max_shift`.
        images: NxCxHxW of good parts.
        seed: Of all random numbers.

    Returns:
        The images and their shifted copies, what chooses samples, and the report.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    detector.train()
    config = detector.config
    samples = shifted_copies(images, config.copies, config.max_shift, generator)
    return samples, generator, FitReport()


def optimise(
    stage: str,
    module: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    *,
    samples: int,
    batch: int,
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
    report: FitReport,
    progress: Progress,
    is_done: Callable[[], bool] = lambda: False,
) -> None:
    """Minimise a loss of random samples with AdamW and a one-cycle learning rate.

    Under torchrun all processes choose the same samples, each computes the loss of its share, and
    all go on with the gradient of the whole batch.

    Args:
        stage: Name of the stage, for the report and the progress.
        module: What is trained.
        loss_of: Called with the indices of a step's samples, returns the mean loss of this
            process's own of them, of which `distributed.mean` is the loss.
        samples: How many samples there are.
        batch: Samples in a step.
        steps: Number of steps.
        learning_rate: Peak learning rate.
        generator: Chooses the samples.
        report: Takes the loss of every step.
        progress: Called after every step.
        is_done: Asked after every step whether that was the last one.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    losses = report.losses[stage] = []
    processes = distributed.world_size()
    if processes > batch:
        note = f'{processes - batch} of {processes} processes have no sample in steps of {batch}'
        report.notes.extend({note}.difference(report.notes))
    distributed.agree(module)
    for step in range(1, steps + 1):
        loss = loss_of(torch.randint(0, samples, (batch,), generator=generator))
        optimiser.zero_grad()
        (distributed.weight(batch) * loss).backward()
        distributed.sum_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        losses.append(distributed.mean(loss.detach(), batch).item())
        progress(stage, step, steps, losses[-1])
        if is_done():
            break


def negative_log_likelihood(latents: list[Tensor], log_determinants: list[Tensor]) -> Tensor:
    """Mean negative log-density per channel and position, up to a constant.

    Args:
        latents: BxCixhixwi, towards N(0, I).
        log_determinants: Bxhixwi.
    """
    return torch.stack(
        [negative_log_density(z, d).mean() for z, d in zip(latents, log_determinants, strict=True)]
    ).mean()


def shifted_copies(
    images: Tensor, count: int, max_shift: int, generator: torch.Generator
) -> Tensor:
    """Images, followed by randomly shifted copies until there are `count` of them.

    Args:
        images: NxCxHxW.
        count: Images and copies.
        max_shift: Most px that a copy is shifted by, in both directions.
        generator: Chooses the shifts.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, (max_shift,) * 4, mode='replicate')
    copies = []
    for index in range(len(images), count):
        top, left = torch.randint(0, 2 * max_shift + 1, (2,), generator=generator).tolist()
        copies.append(padded[index % len(images), :, top : top + height, left : left + width])
    return torch.cat([images, torch.stack(copies)]) if copies else images
