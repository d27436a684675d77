# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Textures for synthetic anomalies, from a folder of images or generated.

TimeNet and DRAEM use the images of DTD (Cimpoi et al., "Describing textures in the wild",
CVPR 2014).
"""

from collections.abc import Callable
import math
from pathlib import Path

from flow_anomaly_ros.data.images import list_images, read_image
from flow_anomaly_ros.data.random_choices import log_uniform, uniform, uniform_integer
from flow_anomaly_ros.layers.resample import resize, size_of
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Called with the number of channels, (height, width) in px and a generator on the CPU; returns a
# texture, CxHxW in [0, 1].
TextureSource = Callable[[int, tuple[int, int], torch.Generator], Tensor]

# Ranges (minimum, maximum) of the random choices.

# Period of the stripes and cell size of the coarsest noise, as fractions of the shorter side.
PERIOD = (0.02, 0.5)
# Number of octaves of noise, and the amplitude of each relative to the next coarser one.
OCTAVES = (1, 5)
PERSISTENCE = (0.4, 1.0)

# Memory of a texture folder: number of images, and about the length of their shorter side.
MAX_IMAGES = 500
MAX_SIDE_PX = 512


def value_noise(size: tuple[int, int], cell: float, generator: torch.Generator) -> Tensor:
    """Generate value noise: random values on a grid, interpolated bilinearly.

    Args:
        size: (height, width) in px.
        cell: Side length of a grid cell in px.
        generator: Source of randomness, on the CPU.

    Returns:
        HxW in [0, 1].
    """
    rows, columns = (math.ceil(side / cell) + 1 for side in size)
    corners = torch.rand(1, 1, rows, columns, generator=generator)
    # Interpolate whole cells and crop, so that cells at the lower right border keep their size.
    full_size = [
        max(side, math.ceil((count - 1) * cell))
        for side, count in zip(size, corners.shape[2:], strict=True)
    ]
    noise = functional.interpolate(corners, size=full_size, mode='bilinear', align_corners=True)
    return noise[0, 0, : size[0], : size[1]]


def generate(channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Generate a texture of stripes, or of noise in several octaves, between two colours.

    Args:
        channels: 1 or 3.
        size: (height, width) in px.
        generator: Source of randomness, on the CPU.

    Returns:
        CxHxW in [0, 1].
    """
    period = min(size) * log_uniform(*PERIOD, generator)
    pattern = _stripes(size, period, generator) if uniform_integer(0, 1, generator) else 0.5
    amplitude, total_amplitude = 1.0, 0.0
    noise = torch.zeros(size)
    persistence = uniform(*PERSISTENCE, generator)
    for octave in range(uniform_integer(*OCTAVES, generator)):
        noise += amplitude * value_noise(size, max(1.0, period / 2**octave), generator)
        total_amplitude += amplitude
        amplitude *= persistence
    mixed = (pattern + 2 * (noise / total_amplitude - 0.5)).clamp(0, 1)
    first, second = torch.rand(2, channels, 1, 1, generator=generator)
    return torch.lerp(first, second, mixed)


def _stripes(size: tuple[int, int], period: float, generator: torch.Generator) -> Tensor:
    rows, columns = (torch.arange(side, dtype=torch.get_default_dtype()) for side in size)
    angle = uniform(0, math.pi, generator)
    along = rows[:, None] * math.cos(angle) + columns * math.sin(angle)
    waves = torch.sin(2 * math.pi * along / period + uniform(0, 2 * math.pi, generator))
    # The amplitude sets how sharp the edges are.
    return (0.5 + uniform(0.5, 4, generator) * waves).clamp(0, 1)


def from_folder(folder: Path) -> TextureSource:
    """Return a source of random crops of the images in a folder and its subfolders.

    Args:
        folder: The folder. If it contains more than `MAX_IMAGES` images, evenly spaced ones of
            them are used.

    Raises:
        ValueError: The folder is missing, contains no images, or contains an unreadable one; one
            line.
    """
    if not folder.is_dir():
        msg = (
            f'texture folder {folder} does not exist; give a folder of images, or none to generate '
            'textures'
        )
        raise ValueError(msg)
    folders = sorted({folder, *_subfolders(folder)})
    paths = [path for subfolder in folders for path in list_images(subfolder)]
    if not paths:
        msg = f'texture folder {folder} has no images; add some, or give none to generate textures'
        raise ValueError(msg)
    images = [_read_rgb(path) for path in paths[:: math.ceil(len(paths) / MAX_IMAGES)]]

    def texture(channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        image = torch.from_numpy(images[uniform_integer(0, len(images) - 1, generator)])
        pixels = image.permute(2, 0, 1)[None].to(torch.get_default_dtype()) / 255
        # A random scale at which the image is at least as large as the crop.
        min_scale = max(
            crop_side / side for crop_side, side in zip(size, size_of(pixels), strict=True)
        )
        scale = min_scale * uniform(1, 2, generator)
        height, width = (math.ceil(scale * side) for side in size_of(pixels))
        pixels = resize(pixels, (height, width))[0]
        top = uniform_integer(0, height - size[0], generator)
        left = uniform_integer(0, width - size[1], generator)
        crop = pixels[:, top : top + size[0], left : left + size[1]]
        return crop if channels == 3 else crop.mean(0, keepdim=True)

    return texture


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.rglob('*') if path.is_dir()]


def _read_rgb(path: Path) -> np.ndarray:
    """Read an image as HxWx3 `uint8`, subsampled."""
    image = read_image(path)
    if image.dtype != np.uint8:
        image = (image // 257).astype(np.uint8)
    step = max(1, min(image.shape[:2]) // MAX_SIDE_PX)
    image = image[::step, ::step]
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))
