# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Resizing of images and feature maps: one rule for the whole package."""

import math
from typing import Any

import cv2
from flow_anomaly_ros.layers import separable
from flow_anomaly_ros.layers.precision import autocast_disabled
from flow_anomaly_ros.layers.separable import AxisResampling
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

UPSAMPLINGS = ('bilinear', 'bicubic', 'nearest')
DOWNSAMPLINGS = ('average', 'max', 'nearest')


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps, averaging where they shrink and interpolating where they grow.

    Shrinking never skips a source pixel, so a defect one pixel wide still shows in the smallest
    scale.

    Args:
        maps: BxCxHxW float tensor.
        size: Target (height, width) in px.

    Returns:
        BxCxheightxwidth tensor, bilinear; averages of whole blocks where each side shrinks by a
        whole factor.
    """
    height, width = maps.shape[-2:]
    if (height, width) == size:
        return maps
    if _is_halved(maps, size) and maps.shape[1] <= 3 and not torch.onnx.is_in_onnx_export():
        # Half way between pixels lies their average: of images, in a third of the time.
        return _interpolated(maps, size)
    if height % size[0] == 0 and width % size[1] == 0:
        # Equal to averaging and several times faster than the general case.
        return functional.avg_pool2d(maps, (height // size[0], width // size[1]))
    if size[0] < height or size[1] < width:
        return _antialiased(maps, size)
    return _interpolated(maps, size)


def _is_halved(maps: Tensor, size: tuple[int, int]) -> bool:
    return size_of(maps) == (2 * size[0], 2 * size[1])


def _interpolated(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size=size, mode='bilinear', align_corners=False)


@autocast_disabled
def _antialiased(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink maps in at least one direction; on CPUs torch cannot in half precision."""
    return functional.interpolate(
        maps, size=size, mode='bilinear', align_corners=False, antialias=True
    )


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a camera image as `resize` does, in whole grey levels and over ten times faster.

    Args:
        image: HxW or HxWxC uint8.
        size: Target (height, width) in px.

    Returns:
        heightxwidth or heightxwidthxC uint8.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    if height % size[0] == 0 and width % size[1] == 0:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    planes = torch.from_numpy(image if image.ndim == 3 else image[..., None]).permute(2, 0, 1)
    shrinks = size[0] < height or size[1] < width
    resized = functional.interpolate(
        planes[None], size=size, mode='bilinear', align_corners=False, antialias=shrinks
    )
    return resized[0].permute(1, 2, 0).numpy().reshape(*size, *image.shape[2:])


def resize_levels(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize as `resize_image` does, on any device.

    Args:
        pixels: BxCxHxW float tensor of whole grey levels.
        size: Target (height, width) in px.

    Returns:
        BxCxheightxwidth tensor of whole grey levels.
    """
    height, width = size_of(pixels)
    if height % size[0] == 0 and width % size[1] == 0:
        # OpenCV has a way of its own for blocks of 2x2, in which halves are rounded up.
        resized = resize(pixels, size)
        return (resized + 0.5).floor() if _is_halved(pixels, size) else resized.round()
    # torch resizes bytes along the rows first, and what comes of that is bytes again.
    shrinks = size[0] < height or size[1] < width
    for step in ((height, size[1]), size):
        resized = _antialiased(pixels, step) if shrinks else resize(pixels, step)
        pixels = (resized + 0.5).floor()
    return pixels


def resample(
    maps: Tensor,
    size: tuple[int, int],
    upsampling: str = 'bilinear',
    downsampling: str = 'average',
) -> Tensor:
    """Resize maps by a method of choice: US 2025/0265693 A1, paragraphs 78 and 91.

    Args:
        maps: BxCxHxW float tensor.
        size: Target (height, width) in px.
        upsampling: How smaller maps grow, one of `UPSAMPLINGS`.
        downsampling: How larger maps shrink, one of `DOWNSAMPLINGS`.
    """
    if size_of(maps) == size:
        return maps
    method = upsampling if _grows(maps, size) else downsampling
    if method == 'max':
        return functional.adaptive_max_pool2d(maps, size)
    if method == 'nearest':
        return functional.interpolate(maps, size=size, mode='nearest-exact')
    if method == 'bicubic':
        return functional.interpolate(maps, size=size, mode='bicubic', align_corners=False)
    return resize(maps, size)


def smooth(maps: Tensor, deviation: float) -> Tensor:
    """Smooth BxCxHxW maps with a Gaussian of the given standard deviation in px, cut off at 3.

    A deviation of 0 leaves them as they are.
    """
    return smooth_at(maps, size_of(maps), deviation)


def smooth_at(
    maps: Tensor,
    size: tuple[int, int],
    deviation: float,
    upsampling: str = 'bilinear',
    downsampling: str = 'average',
) -> Tensor:
    """Resize maps as `resample` does, then smooth them as `smooth` does."""
    if downsampling == 'max' and not _grows(maps, size):
        maps = resample(maps, size, upsampling, downsampling)
    # Reflection needs more pixels than it mirrors.
    reach = min(math.ceil(3 * deviation), min(size) - 1)
    return _in_one_go(maps, size, upsampling, downsampling, deviation=deviation, reach=reach)


def average_at(maps: Tensor, size: tuple[int, int], window: int) -> Tensor:
    """Average maps over a window around every position, then resize them as `resize` does.

    Args:
        maps: BxCxHxW float tensor.
        size: Target (height, width) in px.
        window: Positions in both directions, odd; at the border they are fewer.
    """
    return _in_one_go(maps, size, 'bilinear', 'average', window=window)


def _in_one_go(
    maps: Tensor, size: tuple[int, int], upsampling: str, downsampling: str, **others: Any
) -> Tensor:
    before = size_of(maps)
    method = upsampling if _grows(maps, size) else downsampling
    shrinks = size[0] < before[0] or size[1] < before[1]
    if method in ('average', 'bilinear'):
        is_whole = all(old % new == 0 for old, new in zip(before, size, strict=True))
        method = 'blocks' if is_whole else 'bilinear'
    antialias = shrinks and method == 'bilinear'
    rows, columns = (
        AxisResampling(old, target=new, method=method, antialias=antialias, **others)
        for old, new in zip(before, size, strict=True)
    )
    return separable.resample(maps, rows, columns)


def _grows(maps: Tensor, size: tuple[int, int]) -> bool:
    return size[0] > maps.shape[-2] or size[1] > maps.shape[-1]


def size_of(maps: Tensor) -> tuple[int, int]:
    """Height and width of a tensor whose last two dimensions they are."""
    height, width = maps.shape[-2:]
    return height, width
