# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of the restoring flow on pairs of spoiled and unspoiled images of good parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import itertools

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.data.random_choices import uniform, uniform_integer
from flow_anomaly_ros.data.sampling import evenly_spaced_indices
from flow_anomaly_ros.data.synthetic_anomalies import ANOMALY_TYPES, synthesize_anomaly
from flow_anomaly_ros.detectors.restoration.config import RestorationConfig
from flow_anomaly_ros.detectors.restoration.model import RestorationDetector
from flow_anomaly_ros.detectors.restoration.restoring_flow import RestoringFlow
from flow_anomaly_ros.detectors.training_loop import train_stage, TrainingContext
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import Tensor
from torch.nn import functional

# Pairs of a training step.
BATCH = 8
# Rows and columns of the crop of a pair that a step sees, and share of the crops that are placed
# on a spoiled position.
CROP = 16
SPOILED_CROPS = 0.8
# Share of the pairs that are not spoiled.
UNSPOILED = 0.1
# Largest change of copies: of contrast, relative; of brightness, in units of the full scale; of the
# exponent of the intensities.
GAIN, OFFSET, GAMMA = 0.1, 0.05, 0.15
# Share of the steps' pairs that are seen at time 0, where images are restored from.
AT_START = 0.5
# Largest standard deviation, in those of the features, of the noise that both images of a pair get:
# few good parts do not show all that good parts may look like.
NOISE = 1.0
# Weights of the losses of the remaining time, beside that of the velocity: cross-entropy, in which
# a spoiled position counts as several, and Dice.
CROSS_ENTROPY_WEIGHT, SPOILED_WEIGHT, DICE_WEIGHT = 0.02, 5.0, 0.006
# Images whose features the flow is standardised by.
MAX_STATISTICS_IMAGES = 48
# Most memory that pairs take.
MAX_PAIRS_BYTES = 2**31


@dataclass(frozen=True)
class RestoringPairs:
    """Features of spoiled images and of the same images unspoiled, P of each.

    Attributes:
        spoiled: PxCxhxw, packed, in half precision.
        unspoiled: Likewise.
        is_spoiled: Px1x2hx2w, 1 where the images differ visibly, otherwise 0.
        condition: PxKxhxw normalised distances of the spoiled images from the other reference
            images, where memory banks hold other images; None without other reference images.
        groups: P indices of the groups that the images belong to.
    """

    spoiled: Tensor
    unspoiled: Tensor
    is_spoiled: Tensor
    condition: Tensor | None
    groups: Tensor

    def without(self, groups: Sequence[int]) -> 'RestoringPairs':
        """Return the pairs of all groups but these."""
        kept = ~torch.isin(self.groups, torch.tensor([*groups]))
        condition = None if self.condition is None else self.condition[kept]
        return RestoringPairs(
            self.spoiled[kept],
            self.unspoiled[kept],
            self.is_spoiled[kept],
            condition,
            self.groups[kept],
        )


@torch.no_grad()
def make_pairs(
    detector: RestorationDetector,
    images: Tensor,
    groups: list[slice],
    hold_out: Callable[[slice], None],
    context: TrainingContext,
) -> RestoringPairs:
    """Spoil copies of images of good parts, and extract the features of both.

    Args:
        detector: Its feature models, memory banks and distance normalisers are fitted.
        images: NxCxHxW in [0, 1], registered.
        groups: Images that are held out together.
        hold_out: Fills the memory banks with all images but those of a group.
        context: The training.
    """
    flow = detector.restoring_flow
    assert flow is not None
    batch = detector.config.batch
    few = images[evenly_spaced_indices(len(images), MAX_STATISTICS_IMAGES)]

    def of_images(part: slice) -> list[Tensor]:
        scaled = detector.scale_images(few[part])
        levels = [*itertools.chain(*detector.levels(scaled))]
        return [flow.on_grid(levels, detector.grid(scaled))]

    (packed,) = data_parallel.map_sharded(of_images, len(few), batch)
    flow.fit_statistics(packed)
    data_parallel.broadcast(flow)
    count = -(-_limited_pairs(packed[0], detector.config.restoring_pairs, context) // len(groups))
    seed = int(torch.randint(2**31, (), generator=context.generator))

    def of_group(part: slice) -> list[Tensor]:
        group = groups[part.start]
        hold_out(group)
        generator = torch.Generator().manual_seed(seed + part.start)
        batches = [
            _spoil(detector, images[group], min(batch, count - start), generator)
            for start in range(0, count, batch)
        ]
        return [torch.cat(column)[None] for column in zip(*batches, strict=True)]

    spoiled, unspoiled, is_spoiled, *condition = (
        x.flatten(0, 1)
        for x in data_parallel.map_sharded(
            of_group,
            len(groups),
            1,
            lambda step, steps: context.progress('synthetic anomalies', step, steps, None),
        )
    )
    if condition:
        flow.condition_unit.copy_(condition[0].mean((0, 2, 3))[:, None, None].clamp(min=1e-6))
        condition[0] /= flow.condition_unit
    of_pairs = torch.arange(len(groups)).repeat_interleave(count)
    return RestoringPairs(
        spoiled, unspoiled, is_spoiled, condition[0] if condition else None, of_pairs
    )


def _limited_pairs(packed: Tensor, wanted: int, context: TrainingContext) -> int:
    """Limit the number of pairs to what the memory may take, with a note.

    Args:
        packed: Cxhxw features of an image.
        wanted: Number of pairs.
        context: The training.
    """
    of_pair = 2 * packed.numel() * torch.finfo(torch.float16).bits // 8
    pairs = max(1, min(wanted, MAX_PAIRS_BYTES // of_pair))
    if pairs < wanted:
        context.report.notes.append(
            f'images are large: the restoring flow learns from {pairs} pairs instead of {wanted}'
        )
    return pairs


def _spoil(
    detector: RestorationDetector, images: Tensor, count: int, generator: torch.Generator
) -> list[Tensor]:
    """Make pairs of some of the images: one tensor for each field of `RestoringPairs`."""
    flow = detector.restoring_flow
    assert flow is not None
    chosen = torch.randint(len(images), (count,), generator=generator)
    unspoiled = torch.stack(
        [_varied(images[i], detector.config.max_shift, generator) for i in chosen]
    )
    spoiled, masks = unspoiled.clone(), unspoiled.new_zeros(count, 1, *size_of(images))
    for index, image in enumerate(unspoiled):
        if uniform(0, 1, generator) >= UNSPOILED:
            spoiled[index], masks[index, 0] = synthesize_anomaly(image, generator, ANOMALY_TYPES)
    scaled = detector.scale_images(torch.cat([spoiled, unspoiled]))
    levels = detector.levels(scaled)
    packed = detector.pack(levels, scaled)
    rows, columns = grid = size_of(packed)
    distances = detector.normalized_distances(
        [[level[:count] for level in of_scale] for of_scale in levels],
        [size_of(x) for x in scaled],
    )
    return [
        *packed.half().split(count),
        functional.adaptive_max_pool2d(masks, (2 * rows, 2 * columns)),
        *([flow.condition(distances, grid)] if distances else []),
    ]


def _varied(image: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Vary brightness, contrast and position of a CxHxW image a little."""
    gain, offset, gamma = (uniform(-limit, limit, generator) for limit in (GAIN, OFFSET, GAMMA))
    image = (image * (1 + gain) + offset).clamp(0, 1) ** (1 + gamma)
    top, left = (uniform_integer(0, 2 * max_shift, generator) for _ in range(2))
    padded = functional.pad(image[None], (max_shift,) * 4, mode='replicate')[0]
    return padded[:, top : top + image.shape[1], left : left + image.shape[2]]


def train_restoring_flow(
    flow: RestoringFlow,
    pairs: RestoringPairs,
    config: RestorationConfig,
    context: TrainingContext,
    stage: str = 'restoring flow',
) -> None:
    """Train a flow on crops of the pairs, most of them where an image is spoiled.

    Args:
        flow: Its statistics are fitted.
        pairs: The pairs.
        config: Number of steps, and learning rate.
        context: The training.
        stage: Name of the stage.
    """
    generator, device = context.generator, pairs.spoiled.device
    rows, columns = size_of(pairs.spoiled)
    crop = min(CROP, rows, columns)

    spoiled = [
        functional.max_pool2d(is_spoiled, 2)[0].nonzero().cpu() for is_spoiled in pairs.is_spoiled
    ]

    def corner(index: int) -> list[int]:
        """Draw a pair's crop: its first row and column."""
        corners = [uniform_integer(0, length - crop, generator) for length in (rows, columns)]
        if len(spoiled[index]) == 0 or uniform(0, 1, generator) >= SPOILED_CROPS:
            return corners
        target = spoiled[index][uniform_integer(0, len(spoiled[index]) - 1, generator)].tolist()
        return [
            min(max(0, x - uniform_integer(0, crop - 1, generator)), length - crop)
            for x, length in zip(target, (rows, columns), strict=True)
        ]

    def loss_of(chosen: Tensor) -> Tensor:
        # All processes draw the same numbers for all samples.
        corners = [corner(int(index)) for index in chosen]
        times = torch.rand(len(chosen), generator=generator)
        times *= torch.rand(len(chosen), generator=generator) >= AT_START
        strengths = NOISE * torch.rand(len(chosen), generator=generator)
        values = torch.randn(len(chosen), flow.channels, crop, crop, generator=generator)
        own = data_parallel.own_shard(torch.arange(len(chosen)))

        def cut(maps: Tensor, factor: int = 1) -> Tensor:
            size = factor * crop
            tops = [(int(chosen[i]), *(factor * x for x in corners[i])) for i in own.tolist()]
            return torch.stack(
                [maps[i, :, top : top + size, left : left + size] for i, top, left in tops]
            ).float()

        start, end = cut(pairs.spoiled), cut(pairs.unspoiled)
        noise = (strengths[:, None, None, None] * values)[own].to(device)
        start, end = start + noise, end + noise
        t = times[own].to(device)[:, None, None, None]
        output = flow(
            torch.lerp(start, end, t),
            t.flatten(),
            None if pairs.condition is None else cut(pairs.condition),
        )
        error = functional.mse_loss(output.velocity, end - start)
        remaining_time = cut(pairs.is_spoiled, 2) * (1 - t)
        weight = data_parallel.shard_weight(len(chosen))
        return error + _time_loss(output.time_logits, remaining_time, weight)

    train_stage(
        context,
        stage,
        flow,
        loss_of,
        samples=len(pairs.spoiled),
        batch=BATCH,
        steps=config.restoring_steps,
        learning_rate=config.learning_rate,
    )


def _time_loss(logits: Tensor, target: Tensor, weight: float) -> Tensor:
    """Cross-entropy and Dice loss of the remaining time.

    Args:
        logits: Bx1xhxw, of the samples of this process.
        target: Bx1xhxw in [0, 1].
        weight: Share of all samples that this process has.
    """
    of_position = 1 + (SPOILED_WEIGHT - 1) * (target > 0)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, of_position)
    estimated = logits.sigmoid()
    # Dice is a ratio of sums over the batch. A process without samples of its own adds nothing.
    sums = torch.stack([(estimated * target).sum(), (estimated + target).sum()])
    common, total = data_parallel.all_reduce(sums if weight > 0 else 0 * sums)
    dice = 1 - (2 * common + 1) / (total + 1)
    return CROSS_ENTROPY_WEIGHT * cross_entropy + DICE_WEIGHT * dice
