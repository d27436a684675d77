# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Adjustment of the scaling factors: paragraphs 110-116 of US 2025/0265693 A1."""

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.detectors.restoration.model import RestorationDetector
from flow_anomaly_ros.layers.resample import resize, size_of
import torch
from torch import Tensor

# Reach of the occlusion test pattern from the image's centre, and width of its line, as shares of
# the image's shorter side.
PATTERN_REACH = 0.25
PATTERN_LINE = 1 / 32
# Smallest side of the features of an added scale.
MIN_POSITIONS = 4


@torch.no_grad()
def scales_to_add(
    detector: RestorationDetector, images: Tensor, notes: list[str]
) -> tuple[float, ...]:
    """Compare restored with scaled images of good parts; choose the scaling factors to add.

    Args:
        detector: Trained at its present scales.
        images: NxCxHxW registered images of good parts.
        notes: A line on the similarities is added.

    Returns:
        Empty where all similarities exceed the second threshold, or none can be added.
    """
    config = detector.config
    if config.second_threshold == 0:
        return ()
    values = similarities(detector, images)
    found = ', '.join(f'{s:g}: {v:.4g}' for s, v in zip(config.scales, values, strict=True))
    note = f'similarity of restored and scaled images by scale: {found}'
    if min(values) > config.second_threshold:
        notes.append(f'{note}; the scales are kept')
        return ()
    added: list[float] = []
    for power in range(1, config.added_scales + 1):
        if config.added_side == 'larger':
            scale = config.scales[0] * 2.0**power
        else:
            scale = config.scales[-1] / 2.0**power
            if min(size_of(images)) * scale < MIN_POSITIONS * config.stride:
                break
        if len(config.scales) + len(added) < config.max_scales:
            added.append(scale)
    more = f'added {", ".join(f"{scale:g}" for scale in added)}' if added else 'none can be added'
    notes.append(f'{note}; {more}')
    return tuple(added)


def similarities(detector: RestorationDetector, images: Tensor) -> list[float]:
    """Similarity of restored to scaled images at each scale: 1 / (1 + mean pixel distance) (111).

    With an occlusion test pattern only the area within it counts. It is drawn on these images and
    not on those of the training: it is as new to the detector as a defect, and a good restoration
    keeps it as it would keep one.
    """
    images, area = draw_occlusion_pattern(images, detector.config.occlusion_pattern)
    sums = torch.zeros(len(detector.config.scales), device=images.device)
    own = images[data_parallel.shard(len(images))]
    for batch in own.split(detector.config.batch) if len(own) else ():
        scaled = detector.scale_images(batch)
        features, _ = detector.restored_features(detector.extract(scaled))
        restored = detector.decode(features, [size_of(x) for x in scaled])
        for index, (x, y) in enumerate(zip(restored, scaled, strict=True)):
            share = resize(area, size_of(x))
            distances = (share * detector.distance(x, y)).sum((1, 2, 3)) / share.sum()
            sums[index] += distances.sum()
    return (1 / (1 + data_parallel.all_reduce(sums) / len(images))).tolist()


def draw_occlusion_pattern(images: Tensor, pattern: str) -> tuple[Tensor, Tensor]:
    """Draw the occlusion test pattern in the middle of images (113).

    Args:
        images: BxCxHxW in [0, 1].
        pattern: `none`, `rectangle` or `ring`.

    Returns:
        The images, and the area within the pattern, 1x1xHxW, 1 inside and 0 outside.
    """
    height, width = size_of(images)
    if pattern == 'none':
        return images, images.new_ones(1, 1, height, width)
    rows = (torch.arange(height, device=images.device) + 0.5 - height / 2)[:, None]
    columns = torch.arange(width, device=images.device) + 0.5 - width / 2
    if pattern == 'ring':
        distance = (rows.square() + columns.square()).sqrt()
    else:
        distance = torch.maximum(rows.abs(), columns.abs())
    reach = PATTERN_REACH * min(height, width)
    line = max(1.0, PATTERN_LINE * min(height, width))
    inside = distance <= reach
    level = 0.0 if images.mean() > 0.5 else 1.0
    drawn = torch.where(inside & (distance > reach - line), level, images)
    return drawn, inside.to(images)[None, None]
