# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic anomalies on images of good parts: confetti, patches, textures, scratches, stains."""

from collections.abc import Callable, Sequence
import math

import cv2
from flow_anomaly_ros.data.random_choices import log_uniform, uniform, uniform_integer
from flow_anomaly_ros.data.textures import generate, TextureSource, value_noise
import numpy as np
import torch
from torch import Tensor

# Ranges (minimum, maximum) of the random choices. Lengths are fractions of the image's shorter
# side, areas are fractions of the image.

# Confetti noise: number of rectangles, their side lengths and opacity.
CONFETTI_COUNT = (1, 8)
CONFETTI_SIDE = (0.01, 0.15)
CONFETTI_OPACITY = (0.1, 1.0)
# CutPaste: number of patches, their area and aspect ratio (width / height).
PATCH_COUNT = (1, 4)
PATCH_AREA = (0.0005, 0.03)
PATCH_ASPECT_RATIO = (0.3, 3.3)
# Blended textures: cell size of the noise behind the mask, area of the mask, and opacity.
NOISE_CELL = (0.03, 0.5)
MASK_AREA = (0.002, 0.2)
TEXTURE_OPACITY = (0.2, 1.0)
# Scratches: number of straight pieces, their length, the standard deviation of the turn between two
# of them in radians, half width, opacity, share of those of one grey level, greatest change of
# brightness of the others.
SCRATCH_PIECES = 40
SCRATCH_STEP = (0.002, 0.016)
SCRATCH_TURN = 0.25
SCRATCH_WIDTH = (0.003, 0.02)
SCRATCH_OPACITY = (0.2, 1.0)
SCRATCH_OF_ONE_LEVEL = 2 / 3
SCRATCH_CHANGE = 0.5
# Stains: radius, standard deviation of the logarithm of the aspect ratio, greatest change.
STAIN_RADIUS = (0.008, 0.12)
STAIN_ASPECT_DEVIATION = 0.5
STAIN_CHANGE = 0.6
# Smallest visible change of a channel, for images in [0, 1].
MIN_VISIBLE_CHANGE = 8 / 255
# Kernel of the morphological closing of the mask: gaps of up to 4 px are filled.
MASK_CLOSING_KERNEL = np.ones((5, 5), np.uint8)


def confetti_noise(image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw rotated rectangles of random colours on an image.

    Source: confetti noise of FCDD (Liznerski et al., "Explainable Deep One-Class Classification",
    ICLR 2021), here with rotation and opacity.

    Args:
        image: CxHxW in [0, 1].
        generator: Source of randomness, on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1].
    """
    height, width = image.shape[1:]
    for _ in range(uniform_integer(*CONFETTI_COUNT, generator)):
        sides = [min(height, width) * log_uniform(*CONFETTI_SIDE, generator) for _ in range(2)]
        row = uniform_integer(0, height - 1, generator)
        column = uniform_integer(0, width - 1, generator)
        along, across = _rotated_offsets(image, row, column, uniform(0, math.pi, generator))
        inside = (along.abs() <= sides[0] / 2) & (across.abs() <= sides[1] / 2)
        colour = torch.rand(len(image), 1, 1, generator=generator).to(image)
        image = torch.lerp(image, colour, inside * uniform(*CONFETTI_OPACITY, generator))
    return image


def cut_paste(image: Tensor, generator: torch.Generator) -> Tensor:
    """Copy patches of an image to other places in the same image.

    Source: Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization",
    CVPR 2021.

    Args:
        image: CxHxW in [0, 1].
        generator: Source of randomness, on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1].
    """
    height, width = image.shape[1:]
    changed = image.clone()
    for _ in range(uniform_integer(*PATCH_COUNT, generator)):
        area = height * width * log_uniform(*PATCH_AREA, generator)
        aspect_ratio = log_uniform(*PATCH_ASPECT_RATIO, generator)
        rows = min(height, max(1, round(math.sqrt(area / aspect_ratio))))
        columns = min(width, max(1, round(math.sqrt(area * aspect_ratio))))
        cut, paste = (
            (
                slice(None),
                _random_slice(rows, height, generator),
                _random_slice(columns, width, generator),
            )
            for _ in range(2)
        )
        changed[paste] = image[cut]
    return changed


def blend_texture(image: Tensor, texture: TextureSource, generator: torch.Generator) -> Tensor:
    """Blend a texture into an image under a random mask: smooth noise above a threshold.

    Source: Zavrtanik et al., "DRAEM - a discriminatively trained reconstruction embedding for
    surface anomaly detection", ICCV 2021, section 3.3; TimeNet, section 2.2.

    Args:
        image: CxHxW in [0, 1].
        texture: Source of the texture.
        generator: Source of randomness, on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1].
    """
    channels, height, width = image.shape
    noise = value_noise(
        (height, width), min(height, width) * log_uniform(*NOISE_CELL, generator), generator
    )
    mask = noise >= noise.quantile(1 - log_uniform(*MASK_AREA, generator))
    anomaly_source = texture(channels, (height, width), generator).to(image)
    opacity = uniform(*TEXTURE_OPACITY, generator)
    return torch.lerp(image, anomaly_source, opacity * mask.to(image))


def blend_generated_texture(image: Tensor, generator: torch.Generator) -> Tensor:
    """Blend a generated texture into an image; see `blend_texture`."""
    return blend_texture(image, generate, generator)


def scratch(image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a winding line on an image: of one grey level, or brighter or darker.

    Args:
        image: CxHxW in [0, 1].
        generator: Source of randomness, on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1].
    """
    height, width = image.shape[1:]
    side = min(height, width)
    turns = SCRATCH_TURN * torch.randn(SCRATCH_PIECES, generator=generator)
    angles = uniform(0, 2 * math.pi, generator) + turns.cumsum(0)
    steps = side * log_uniform(*SCRATCH_STEP, generator) * torch.stack([angles.cos(), angles.sin()])
    start = torch.tensor([[uniform(0, width, generator)], [uniform(0, height, generator)]])
    ground = np.full((height, width), 255, np.uint8)
    points = (start + steps.cumsum(1)).T.round().to(torch.int32).numpy()
    cv2.polylines(ground, [points], False, 0)
    # Along the line the distance is 0. Edges are soft.
    distance = torch.from_numpy(cv2.distanceTransform(ground, cv2.DIST_L2, 5)).to(image)
    line = (1.5 - distance / (side * log_uniform(*SCRATCH_WIDTH, generator))).clamp(0, 1)
    opacity = uniform(*SCRATCH_OPACITY, generator)
    if uniform(0, 1, generator) < SCRATCH_OF_ONE_LEVEL:
        changed = torch.full_like(image, uniform(0, 1, generator))
    else:
        change = uniform(-SCRATCH_CHANGE, SCRATCH_CHANGE, generator)
        changed = (image + change).clamp(0, 1)
    return torch.lerp(image, changed, opacity * line)


def stain(image: Tensor, generator: torch.Generator) -> Tensor:
    """Brighten or darken an ellipse with a soft edge.

    Args:
        image: CxHxW in [0, 1].
        generator: Source of randomness, on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1].
    """
    height, width = image.shape[1:]
    radius = min(height, width) * log_uniform(*STAIN_RADIUS, generator)
    aspect = math.exp(STAIN_ASPECT_DEVIATION * torch.randn((), generator=generator).item())
    angle = uniform(0, math.pi, generator)
    row, column = uniform(0, height, generator), uniform(0, width, generator)
    along, across = _rotated_offsets(image, row, column, angle)
    distance = ((along * aspect).square() + (across / aspect).square()).sqrt() / radius
    change = uniform(-STAIN_CHANGE, STAIN_CHANGE, generator)
    return (image + change * ((1.3 - distance) / 0.6).clamp(0, 1)).clamp(0, 1)


def scratched_stain(image: Tensor, generator: torch.Generator) -> Tensor:
    """Add a stain and a scratch to an image; see `stain` and `scratch`."""
    return scratch(stain(image, generator), generator)


AnomalyType = Callable[[Tensor, torch.Generator], Tensor]
PATCH_ANOMALY_TYPES: tuple[AnomalyType, ...] = (confetti_noise, cut_paste)
ANOMALY_TYPES: tuple[AnomalyType, ...] = (
    *PATCH_ANOMALY_TYPES,
    blend_generated_texture,
    scratch,
    stain,
    scratched_stain,
)


def synthesize_anomaly(
    image: Tensor,
    generator: torch.Generator,
    types: Sequence[AnomalyType] = PATCH_ANOMALY_TYPES,
) -> tuple[Tensor, Tensor]:
    """Add an anomaly to an image: by default confetti noise or CutPaste patches.

    Args:
        image: CxHxW in [0, 1].
        generator: Source of randomness, on the CPU.
        types: One of them is drawn.

    Returns:
        The changed image, CxHxW in [0, 1], and its mask, HxW `bool`: True where the change is
        visible. The mask is empty if a patch was pasted on an area of the same appearance.
    """
    add_anomaly = types[uniform_integer(0, len(types) - 1, generator)]
    changed = add_anomaly(image, generator)
    difference = (changed - image).abs().amax(0)
    visible = (difference >= MIN_VISIBLE_CHANGE).to(torch.uint8).numpy(force=True)
    closed = cv2.morphologyEx(visible, cv2.MORPH_CLOSE, MASK_CLOSING_KERNEL)
    return changed, torch.from_numpy(closed).to(image.device) > 0


def _rotated_offsets(
    image: Tensor, row: float, column: float, angle: float
) -> tuple[Tensor, Tensor]:
    """Offsets of each pixel of a CxHxW image from a point, along an angle and across it, HxW."""
    y = torch.arange(image.shape[1], device=image.device)[:, None] - row
    x = torch.arange(image.shape[2], device=image.device) - column
    cosine, sine = math.cos(angle), math.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def _random_slice(length: int, total: int, generator: torch.Generator) -> slice:
    """Draw a slice of `length` elements out of `total`."""
    start = uniform_integer(0, total - length, generator)
    return slice(start, start + length)
