# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of textures, which pseudo anomalies are made of: those of a folder, or generated ones.

TimeNet takes those of DTD (Cimpoi et al., "Describing textures in the wild", CVPR 2014), as other
methods that learn to restore do.
"""

from collections.abc import Callable
import math
from pathlib import Path

from flow_anomaly_ros.data.images import list_images, read_image
from flow_anomaly_ros.data.random_choices import integer, log_uniform, uniform
from flow_anomaly_ros.layers.resample import resize, size_of
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Makes a texture, CxHxW in [0, 1]: called with channels, (height, width), and what makes choices.
Textures = Callable[[int, tuple[int, int], torch.Generator], Tensor]

# Periods of stripes and sizes of blots, as shares of the image's shorter side.
PERIOD_SHARE = (0.02, 0.5)
# Octaves of noise, and how much each counts beside the next coarser one.
OCTAVES = (1, 5)
PERSISTENCE = (0.4, 1.0)
# Pictures of a folder that are kept in memory, reduced to this shorter side in px.
MAX_PICTURES = 500
MAX_SIDE_PX = 512


def value_noise(size: tuple[int, int], cell: float, generator: torch.Generator) -> Tensor:
    """Smooth noise: random values at the corners of cells, interpolated.

    Args:
        size: (height, width) in px.
        cell: Side of a cell in px.
        generator: Makes all choices; on the CPU.

    Returns:
        HxW in [0, 1].
    """
    rows, columns = (math.ceil(side / cell) + 1 for side in size)
    corners = torch.rand(1, 1, rows, columns, generator=generator)
    # Cells that are cut off at the lower right border keep their size.
    whole = [
        max(side, math.ceil((n - 1) * cell))
        for side, n in zip(size, corners.shape[2:], strict=True)
    ]
    noise = functional.interpolate(corners, size=whole, mode='bilinear', align_corners=True)
    return noise[0, 0, : size[0], : size[1]]


def generated(channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Generate a texture: stripes or noise of several octaves between two colours.

    Args:
        channels: 1 or 3.
        size: (height, width) in px.
        generator: Makes all choices; on the CPU.

    Returns:
        CxHxW in [0, 1].
    """
    period = min(size) * log_uniform(*PERIOD_SHARE, generator)
    pattern = _stripes(size, period, generator) if integer(0, 1, generator) else 0.5
    strength, total = 1.0, 0.0
    noise = torch.zeros(size)
    persistence = uniform(*PERSISTENCE, generator)
    for octave in range(integer(*OCTAVES, generator)):
        noise += strength * value_noise(size, max(1.0, period / 2**octave), generator)
        total += strength
        strength *= persistence
    mixed = (pattern + 2 * (noise / total - 0.5)).clamp(0, 1)
    first, second = torch.rand(2, channels, 1, 1, generator=generator)
    return torch.lerp(first, second, mixed)


def _stripes(size: tuple[int, int], period: float, generator: torch.Generator) -> Tensor:
    rows, columns = (torch.arange(side, dtype=torch.get_default_dtype()) for side in size)
    angle = uniform(0, math.pi, generator)
    along = rows[:, None] * math.cos(angle) + columns * math.sin(angle)
    waves = torch.sin(2 * math.pi * along / period + uniform(0, 2 * math.pi, generator))
    # Sharp edges or soft ones.
    return (0.5 + uniform(0.5, 4, generator) * waves).clamp(0, 1)


def of_folder(folder: Path) -> Textures:
    """Textures that are random cuts of the pictures in a folder and in folders within it.

    Args:
        folder: Where the pictures are; of more than `MAX_PICTURES` some are taken, spread evenly.

    Raises:
        ValueError: No such folder, no pictures in it, or one that cannot be read; one line.
    """
    if not folder.is_dir():
        msg = f'no folder of textures at {folder}: name one with pictures, or none'
        raise ValueError(msg)
    paths = [path for one in sorted({folder, *_folders(folder)}) for path in list_images(one)]
    if not paths:
        msg = f'no pictures in the folder of textures {folder}: put some there, or name none'
        raise ValueError(msg)
    chosen = paths[:: math.ceil(len(paths) / MAX_PICTURES)]
    pictures = [_read(path) for path in chosen]

    def texture(channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        picture = torch.from_numpy(pictures[integer(0, len(pictures) - 1, generator)])
        pixels = picture.permute(2, 0, 1)[None].to(torch.get_default_dtype()) / 255
        # Of a random scale, so that it is large enough to be cut from.
        least = max(want / have for want, have in zip(size, size_of(pixels), strict=True))
        scale = least * uniform(1, 2, generator)
        height, width = (math.ceil(scale * side) for side in size_of(pixels))
        pixels = resize(pixels, (height, width))[0]
        top = integer(0, height - size[0], generator)
        left = integer(0, width - size[1], generator)
        cut = pixels[:, top : top + size[0], left : left + size[1]]
        return cut if channels == 3 else cut.mean(0, keepdim=True)

    return texture


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.rglob('*') if path.is_dir()]


def _read(path: Path) -> np.ndarray:
    """Read a picture as HxWx3 uint8, reduced."""
    image = read_image(path)
    if image.dtype != np.uint8:
        image = (image // 257).astype(np.uint8)
    step = max(1, min(image.shape[:2]) // MAX_SIDE_PX)
    image = image[::step, ::step]
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))
