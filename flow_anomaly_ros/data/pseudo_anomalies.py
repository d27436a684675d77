# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Anomalies made on images of good parts: confetti noise, CutPaste, and blots of textures."""

from collections.abc import Callable
import math

from flow_anomaly_ros.data.random_choices import integer, log_uniform, uniform
from flow_anomaly_ros.data.textures import Textures, value_noise
import torch
from torch import Tensor
from torch.nn import functional

# Pieces of confetti in an image, their sides as shares of the image's shorter side, and their
# opacity.
PIECES = (1, 8)
PIECE_SIDE = (0.01, 0.15)
PIECE_OPACITY = (0.1, 1.0)
# Patches in an image, the share of it that each covers, and its width by its height.
PATCHES = (1, 4)
PATCH_AREA = (0.0005, 0.03)
PATCH_ASPECT = (0.3, 3.3)
# Blots of a texture: size of their details as a share of the image's shorter side, the share of the
# image that they cover, and their opacity.
BLOT_SIZE = (0.03, 0.5)
BLOT_AREA = (0.002, 0.2)
BLOT_OPACITY = (0.2, 1.0)
# Pixels that change by less than this in every channel look as before, unless they lie between such
# that change more: gaps of up to twice REACH px are closed.
VISIBLE = 8 / 255
REACH = 2


def confetti(image: Tensor, generator: torch.Generator) -> Tensor:
    """Scatter turned rectangles of random colours over an image.

    Args:
        image: CxHxW in [0, 1].
        generator: Makes all choices; on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1].
    """
    height, width = image.shape[1:]
    rows = torch.arange(height, device=image.device)[:, None]
    columns = torch.arange(width, device=image.device)
    for _ in range(integer(*PIECES, generator)):
        sides = [min(height, width) * log_uniform(*PIECE_SIDE, generator) for _ in range(2)]
        y = rows - integer(0, height - 1, generator)
        x = columns - integer(0, width - 1, generator)
        angle = uniform(0, math.pi, generator)
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        inside = (along.abs() <= sides[0] / 2) & (across.abs() <= sides[1] / 2)
        colour = torch.rand(len(image), 1, 1, generator=generator).to(image)
        image = torch.lerp(image, colour, inside * uniform(*PIECE_OPACITY, generator))
    return image


def cut_paste(image: Tensor, generator: torch.Generator) -> Tensor:
    """Paste patches of an image somewhere else in it (CutPaste, Li et al., CVPR 2021).

    Args:
        image: CxHxW in [0, 1].
        generator: Makes all choices; on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1].
    """
    height, width = image.shape[1:]
    changed = image.clone()
    for _ in range(integer(*PATCHES, generator)):
        area = height * width * log_uniform(*PATCH_AREA, generator)
        aspect = log_uniform(*PATCH_ASPECT, generator)
        rows = min(height, max(1, round(math.sqrt(area / aspect))))
        columns = min(width, max(1, round(math.sqrt(area * aspect))))
        cut, paste = (
            (slice(None), _place(rows, height, generator), _place(columns, width, generator))
            for _ in range(2)
        )
        changed[paste] = image[cut]
    return changed


def blend_texture(image: Tensor, texture: Textures, generator: torch.Generator) -> Tensor:
    """Blend a texture into an image where smooth noise is highest, as DRAEM does.

    Source: Zavrtanik et al., "DRAEM - a discriminatively trained reconstruction embedding for
    surface anomaly detection", ICCV 2021, section 3.3; TimeNet, section 2.2.

    Args:
        image: CxHxW in [0, 1].
        texture: Makes textures.
        generator: Makes all choices; on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1].
    """
    channels, height, width = image.shape
    noise = value_noise(
        (height, width), min(height, width) * log_uniform(*BLOT_SIZE, generator), generator
    )
    covered = noise >= noise.quantile(1 - log_uniform(*BLOT_AREA, generator))
    other = texture(channels, (height, width), generator).to(image)
    opacity = uniform(*BLOT_OPACITY, generator)
    return torch.lerp(image, other, opacity * covered.to(image))


KINDS: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (confetti, cut_paste)


def synthesize_anomaly(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Make an anomaly of a random kind on an image.

    Args:
        image: CxHxW in [0, 1].
        generator: Makes all choices; on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1], and its mask, bool HxW: where it looks different, which
        is nowhere where a patch was pasted on what looks the same.
    """
    changed = KINDS[integer(0, len(KINDS) - 1, generator)](image, generator)
    differs = ((changed - image).abs().amax(0, keepdim=True) >= VISIBLE).float()
    side = 2 * REACH + 1
    dilated = functional.max_pool2d(differs, side, 1, REACH)
    return changed, -functional.max_pool2d(-dilated, side, 1, REACH)[0] > 0


def _place(side: int, length: int, generator: torch.Generator) -> slice:
    """Choose where something of a length lies within a longer one."""
    start = integer(0, length - side, generator)
    return slice(start, start + side)
