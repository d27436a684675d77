# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The training loop that all methods share, and augmentation by shifted copies."""

from collections.abc import Callable
from dataclasses import dataclass, field
import functools
from typing import Any

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.detectors.base import Detector, FitReport, Progress
from flow_anomaly_ros.detectors.checkpoints import CheckpointStore
from flow_anomaly_ros.layers.likelihood import flow_nll
from flow_anomaly_ros.layers.quantisation import is_quantised, observing
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import nn, Tensor
from torch.nn import functional

MAX_GRADIENT_NORM = 1.0
WEIGHT_DECAY = 1e-5
# Blocks along each side of an image of random colours.
BLOCKS = 16


@dataclass(frozen=True)
class TrainingContext:
    """State that the stages of a training share.

    Attributes:
        generator: Source of all random choices; on the CPU.
        progress: Called after every step.
        checkpoints: Where interrupted stages resume.
        report: Collects the loss of every step.
    """

    generator: torch.Generator
    progress: Progress
    checkpoints: CheckpointStore
    report: FitReport = field(default_factory=FitReport)


def start_training(
    detector: Detector, seed: int, progress: Progress, checkpoints: CheckpointStore
) -> TrainingContext:
    """Start a training: seed all random numbers.

    Args:
        detector: The detector.
        seed: Seed of all random numbers.
        progress: Called after every step.
        checkpoints: Where interrupted stages resume.
    """
    torch.manual_seed(seed)
    detector.train()
    return TrainingContext(torch.Generator().manual_seed(seed), progress, checkpoints)


@torch.no_grad()
def observe_quantisation_ranges(
    context: TrainingContext,
    detector: Detector,
    images: Tensor,
    observe: Callable[[Tensor], object],
) -> None:
    """Calibrate the input ranges of quantized convolutions, if there are any.

    Values outside of the observed range are clipped, and a defect may well lie there. So images of
    random blocks of colour are observed as well, as many as there are good parts.

    Args:
        context: The training.
        detector: May have quantized convolutions.
        images: NxCxHxW in [0, 1], images of good parts.
        observe: Runs the convolutions on a batch.
    """
    if not is_quantised(detector):
        return
    batches = images.split(detector.config.batch)
    with observing(detector):
        for step, good in enumerate(batches, 1):
            colours = torch.rand(
                *good.shape[:2], BLOCKS, BLOCKS, generator=context.generator
            ).round()
            observe(good)
            observe(functional.interpolate(colours, size_of(good)).to(good))
            context.progress('quantisation ranges', step, len(batches), None)
    data_parallel.broadcast(detector)


def train_stage(
    context: TrainingContext,
    stage: str,
    module: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    *,
    samples: int,
    batch: int,
    steps: int,
    learning_rate: float,
    is_done: Callable[[], bool] = lambda: False,
) -> None:
    """Minimise a loss of random samples with AdamW and a one-cycle learning rate.

    Under torchrun all processes draw the same samples, each computes the loss of its shard, and all
    continue with the gradient of the whole batch. A stage with a checkpoint resumes from it.

    Args:
        context: The training.
        stage: Name of the stage, for the report and the progress.
        module: Its parameters are trained.
        loss_of: Called with the indices of a step's samples; returns the mean loss of this
            process's shard of them.
        samples: Number of samples.
        batch: Samples per step.
        steps: Number of steps.
        learning_rate: Peak learning rate.
        is_done: Called after every step; true ends the stage.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    # One operation for all parameters: on a CPU, several times faster than one by one.
    optimiser = torch.optim.AdamW(
        parameters, lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    device = parameters[0].device
    losses = context.report.losses[stage] = []
    processes = data_parallel.world_size()
    if processes > batch:
        idle = processes - batch
        note = (
            f'batch {batch} is smaller than world size {processes}: {idle} '
            f'rank{"s" * (idle > 1)} idle'
        )
        context.report.notes.extend({note}.difference(context.report.notes))
    learning: dict[str, Any] = {
        'module': module,
        'optimiser': optimiser,
        'schedule': schedule,
    }
    state = context.checkpoints.load(stage)
    if state:
        for name, part in learning.items():
            part.load_state_dict(state[name])
        _set_random_state(context.generator, device, state['random'])
        losses.extend(state['losses'])
        context.progress(stage, len(losses), steps, losses[-1])
        if state['is_over']:
            return
    data_parallel.broadcast(module)
    for step in range(len(losses) + 1, steps + 1):
        loss = loss_of(torch.randint(0, samples, (batch,), generator=context.generator))
        optimiser.zero_grad()
        (data_parallel.shard_weight(batch) * loss).backward()
        data_parallel.all_reduce_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        losses.append(data_parallel.all_reduce_mean(loss.detach(), batch).item())
        is_over = step == steps or is_done()
        state_now = functools.partial(_state, learning, context.generator, device, losses, is_over)
        context.checkpoints.save(stage, state_now, is_over)
        context.progress(stage, step, steps, losses[-1])
        if is_over:
            break


def _state(
    learning: dict[str, Any],
    generator: torch.Generator,
    device: torch.device,
    losses: list[float],
    is_over: bool,
) -> dict[str, Any]:
    """Return everything that the rest of a stage depends on, random number generators included."""
    return {
        **{name: part.state_dict() for name, part in learning.items()},
        'random': {
            'generator': generator.get_state(),
            'cpu': torch.get_rng_state(),
            'gpu': torch.cuda.get_rng_state(device) if device.type == 'cuda' else None,
        },
        'losses': losses,
        'is_over': is_over,
    }


def _set_random_state(
    generator: torch.Generator, device: torch.device, state: dict[str, Any]
) -> None:
    generator.set_state(state['generator'])
    torch.set_rng_state(state['cpu'])
    # None where the training began without a GPU.
    if device.type == 'cuda' and (gpu := state.get('gpu')) is not None:
        torch.cuda.set_rng_state(gpu, device)


def negative_log_likelihood(latents: list[Tensor], log_determinants: list[Tensor]) -> Tensor:
    """Mean negative log-density per channel and position, up to a constant.

    Args:
        latents: BxCixhixwi, towards N(0, I).
        log_determinants: Bxhixwi.
    """
    return torch.stack(
        [flow_nll(z, d).mean() for z, d in zip(latents, log_determinants, strict=True)]
    ).mean()


def shifted_copies(
    images: Tensor, count: int, max_shift: int, generator: torch.Generator
) -> Tensor:
    """Return the images, followed by randomly shifted copies up to `count` in all.

    Args:
        images: NxCxHxW.
        count: Number of images and copies.
        max_shift: Largest shift in px, in both directions.
        generator: Draws the shifts.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, (max_shift,) * 4, mode='replicate')
    copies = []
    for index in range(len(images), count):
        top, left = torch.randint(0, 2 * max_shift + 1, (2,), generator=generator).tolist()
        copies.append(padded[index % len(images), :, top : top + height, left : left + width])
    return torch.cat([images, torch.stack(copies)]) if copies else images
