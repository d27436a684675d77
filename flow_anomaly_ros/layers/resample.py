# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Resizing and smoothing of feature and score maps: one rule for the whole package."""

import math
from typing import Any

from flow_anomaly_ros.layers import separable
from flow_anomaly_ros.layers.precision import autocast_disabled
from flow_anomaly_ros.layers.separable import AxisResampling
import torch
from torch import Tensor
from torch.nn import functional

UPSAMPLINGS = ('bilinear', 'bicubic', 'nearest')
DOWNSAMPLINGS = ('average', 'max', 'nearest')


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps: average where they shrink, interpolate where they grow.

    Every source pixel counts when maps shrink, so a defect one pixel wide still shows in the
    smallest scale.

    Args:
        maps: BxCxHxW float tensor.
        size: Target (height, width) in px.

    Returns:
        BxCxheightxwidth tensor: block averages if both sides shrink by an integer factor, else
        bilinear, antialiased if a side shrinks.
    """
    height, width = maps.shape[-2:]
    if (height, width) == size:
        return maps
    is_half = (height, width) == (2 * size[0], 2 * size[1])
    if is_half and maps.shape[1] <= 3 and not torch.onnx.is_in_onnx_export():
        # Bilinear interpolation half way between two pixels is their average, and takes a third of
        # the time of pooling for images.
        return _interpolate(maps, size)
    if height % size[0] == 0 and width % size[1] == 0:
        # Equals the antialiased interpolation below and is several times faster.
        return functional.avg_pool2d(maps, (height // size[0], width // size[1]))
    if size[0] < height or size[1] < width:
        return _interpolate_antialiased(maps, size)
    return _interpolate(maps, size)


def _interpolate(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size=size, mode='bilinear', align_corners=False)


# PyTorch has no antialiased interpolation in half precision on CPUs.
@autocast_disabled
def _interpolate_antialiased(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(
        maps, size=size, mode='bilinear', align_corners=False, antialias=True
    )


def resample(
    maps: Tensor,
    size: tuple[int, int],
    upsampling: str = 'bilinear',
    downsampling: str = 'average',
) -> Tensor:
    """Resize maps by a selectable method: US 2025/0265693 A1, paragraphs 78 and 91.

    Args:
        maps: BxCxHxW float tensor.
        size: Target (height, width) in px.
        upsampling: Method if a side grows, one of `UPSAMPLINGS`.
        downsampling: Method otherwise, one of `DOWNSAMPLINGS`.

    Returns:
        BxCxheightxwidth tensor.
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


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth BxCxHxW maps with a Gaussian.

    Args:
        maps: BxCxHxW float tensor.
        sigma: Standard deviation in px; the kernel is truncated at three of them. 0: no smoothing.

    Returns:
        BxCxHxW tensor.
    """
    return resize_and_smooth(maps, size_of(maps), sigma)


def resize_and_smooth(
    maps: Tensor,
    size: tuple[int, int],
    sigma: float,
    upsampling: str = 'bilinear',
    downsampling: str = 'average',
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Resize maps as `resample` does, then smooth them as `smooth` does, in one operation.

    Args:
        maps: BxCxHxW float tensor.
        size: Target (height, width) in px.
        sigma: Standard deviation of the Gaussian in px of the target; 0: no smoothing.
        upsampling: See `resample`.
        downsampling: See `resample`.
        offset: (down, right) in px of the target from where the maps belong to where they would be
            drawn, see `level_offsets`; the border repeats itself.

    Returns:
        BxCxheightxwidth tensor.
    """
    if downsampling == 'max' and not _grows(maps, size):
        # The maximum is not linear: no matrix computes it.
        maps = resample(maps, size, upsampling, downsampling)
    # Reflection padding must be narrower than the map.
    radius = min(math.ceil(3 * sigma), min(size) - 1)
    return _resample_separably(
        maps, size, upsampling, downsampling, offset, sigma=sigma, radius=radius
    )


def average_and_resize(
    maps: Tensor,
    size: tuple[int, int],
    window: int,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Average maps over a window around each position, then resize them as `resize` does.

    Args:
        maps: BxCxHxW float tensor.
        size: Target (height, width) in px.
        window: Side of the window in positions, odd; positions beyond the border do not count.
        offset: See `resize_and_smooth`.

    Returns:
        BxCxheightxwidth tensor.
    """
    return _resample_separably(maps, size, 'bilinear', 'average', offset, window=window)


def _resample_separably(
    maps: Tensor,
    size: tuple[int, int],
    upsampling: str,
    downsampling: str,
    offset: tuple[float, float] = (0.0, 0.0),
    **options: Any,
) -> Tensor:
    """Resize maps by one matrix per axis; `options` are those of `AxisResampling`."""
    source_size = size_of(maps)
    method = upsampling if _grows(maps, size) else downsampling
    shrinks = size[0] < source_size[0] or size[1] < source_size[1]
    if method in ('average', 'bilinear'):
        has_blocks = all(old % new == 0 for old, new in zip(source_size, size, strict=True))
        method = 'blocks' if has_blocks else 'bilinear'
    antialias = shrinks and method == 'bilinear'
    rows, columns = (
        AxisResampling(old, new, method=method, antialias=antialias, offset=along, **options)
        for old, new, along in zip(source_size, size, offset, strict=True)
    )
    return separable.resample(maps, rows, columns)


def _grows(maps: Tensor, size: tuple[int, int]) -> bool:
    return size[0] > maps.shape[-2] or size[1] > maps.shape[-1]


def size_of(maps: Tensor) -> tuple[int, int]:
    """(height, width) of a ...xHxW tensor."""
    height, width = maps.shape[-2:]
    return height, width
