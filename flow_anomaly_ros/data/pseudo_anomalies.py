# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Anomalies made on images of good parts: confetti noise and CutPaste, with their masks."""

from collections.abc import Callable
import math

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
    for _ in range(_integer(*PIECES, generator)):
        sides = [min(height, width) * _log_uniform(*PIECE_SIDE, generator) for _ in range(2)]
        y = rows - _integer(0, height - 1, generator)
        x = columns - _integer(0, width - 1, generator)
        angle = _uniform(0, math.pi, generator)
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        inside = (along.abs() <= sides[0] / 2) & (across.abs() <= sides[1] / 2)
        colour = torch.rand(len(image), 1, 1, generator=generator).to(image)
        image = torch.lerp(image, colour, inside * _uniform(*PIECE_OPACITY, generator))
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
    for _ in range(_integer(*PATCHES, generator)):
        area = height * width * _log_uniform(*PATCH_AREA, generator)
        aspect = _log_uniform(*PATCH_ASPECT, generator)
        rows = min(height, max(1, round(math.sqrt(area / aspect))))
        columns = min(width, max(1, round(math.sqrt(area * aspect))))
        cut, paste = (
            (slice(None), _place(rows, height, generator), _place(columns, width, generator))
            for _ in range(2)
        )
        changed[paste] = image[cut]
    return changed


KINDS: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (confetti, cut_paste)


def with_anomaly(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Make an anomaly of a random kind on an image.

    Args:
        image: CxHxW in [0, 1].
        generator: Makes all choices; on the CPU.

    Returns:
        The changed image, CxHxW in [0, 1], and its mask, bool HxW: where it looks different, which
        is nowhere where a patch was pasted on what looks the same.
    """
    changed = KINDS[_integer(0, len(KINDS) - 1, generator)](image, generator)
    differs = ((changed - image).abs().amax(0, keepdim=True) >= VISIBLE).float()
    side = 2 * REACH + 1
    dilated = functional.max_pool2d(differs, side, 1, REACH)
    return changed, -functional.max_pool2d(-dilated, side, 1, REACH)[0] > 0


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _log_uniform(low: float, high: float, generator: torch.Generator) -> float:
    return math.exp(_uniform(math.log(low), math.log(high), generator))


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    """Choose a whole number, `high` included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _place(side: int, length: int, generator: torch.Generator) -> slice:
    """Choose where something of a length lies within a longer one."""
    start = _integer(0, length - side, generator)
    return slice(start, start + side)
