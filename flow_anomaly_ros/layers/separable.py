# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Averaging, resizing and Gaussian smoothing of maps, combined into one matrix per axis.

Maps may be moved on the way. All of this is linear and treats rows and columns separately. Two
products with small matrices take a fraction of the time of the operations themselves, and every
runtime of exported models has them.
"""

from dataclasses import dataclass

from flow_anomaly_ros.layers.inference import is_channels_last
from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class AxisResampling:
    """Resampling along one axis of a map: average over a window, resize, smooth.

    Attributes:
        input_size: Positions before.
        output_size: Positions after.
        window: Side of the averaging window in positions before, odd; positions beyond the border
            do not count. 1: no averaging.
        method: Resizing method: `blocks` (block averages, `output_size` divides `input_size`),
            `bilinear`, `bicubic` or `nearest`.
        antialias: Whether `bilinear` averages over all source positions when it shrinks.
        offset: Each position after takes what lies this many such positions further along the
            axis, interpolated linearly; the border repeats itself.
        sigma: Standard deviation of the Gaussian in positions after; 0: no smoothing.
        radius: Positions after at which the Gaussian is truncated.
    """

    input_size: int
    output_size: int
    window: int = 1
    method: str = 'bilinear'
    antialias: bool = False
    offset: float = 0.0
    sigma: float = 0.0
    radius: int = 0

    @property
    def is_identity(self) -> bool:
        """Whether the axis stays as it is."""
        is_resized = self.input_size != self.output_size
        return not is_resized and self.window == 1 and self.offset == 0 and self.sigma == 0


# Models of other sizes or networks have others, and a node may load many in its life.
MAX_MATRICES = 500
_MATRICES: dict[tuple[AxisResampling, torch.device, torch.dtype], Tensor] = {}


@autocast_disabled
def resample(maps: Tensor, rows: AxisResampling, columns: AxisResampling) -> Tensor:
    """Resample BxCxHxW maps along their rows and columns.

    Args:
        maps: BxCxHxW float tensor.
        rows: Resampling of the H rows.
        columns: Resampling of the W columns.

    Returns:
        BxCx(rows.output_size)x(columns.output_size), in the memory format of `maps`.
    """
    if rows.is_identity and columns.is_identity:
        return maps
    if not is_channels_last(maps):
        return _matrix(rows, maps) @ (maps.contiguous() @ _matrix(columns, maps).mT)
    positions = maps.permute(0, 2, 3, 1)
    resampled_rows = _matrix(rows, maps) @ positions.flatten(2)
    resampled = _matrix(columns, maps) @ resampled_rows.unflatten(2, positions.shape[2:])
    return resampled.permute(0, 3, 1, 2)


def _matrix(axis: AxisResampling, like: Tensor) -> Tensor:
    key = axis, like.device, like.dtype
    if key not in _MATRICES:
        if len(_MATRICES) >= MAX_MATRICES:
            _MATRICES.clear()
        # Cached for training as well, which cannot use tensors made in inference mode.
        with torch.inference_mode(mode=False), torch.no_grad():
            _MATRICES[key] = _build_matrix(axis).to(like)
    return _MATRICES[key]


def _build_matrix(axis: AxisResampling) -> Tensor:
    """Matrix of a resampling, (output_size)x(input_size): its response to each unit vector."""
    # The columns of this image are the unit vectors. Nothing below mixes columns.
    units = torch.eye(axis.input_size, dtype=torch.float64)[None, None]
    if axis.window > 1:
        # Counting zero padding would darken the border of every map.
        units = functional.avg_pool2d(
            units, (axis.window, 1), 1, (axis.window // 2, 0), count_include_pad=False
        )
    if axis.output_size != axis.input_size:
        units = _resize_rows(units, axis)
    if axis.offset != 0:
        units = _sample_rows(units, axis.offset)
    if axis.sigma > 0:
        # The same kernel as torchvision's gaussian_blur, whose import takes as long as torch's.
        offsets = torch.arange(-axis.radius, axis.radius + 1, dtype=torch.float64)
        kernel = torch.softmax(-(offsets / axis.sigma).square() / 2, 0)
        padded = functional.pad(units, (0, 0, axis.radius, axis.radius), mode='reflect')
        units = functional.conv2d(padded, kernel[None, None, :, None])
    return units[0, 0]


def _sample_rows(units: Tensor, offset: float) -> Tensor:
    last = units.shape[2] - 1
    places = (torch.arange(last + 1, dtype=units.dtype) + offset).clamp(0, last)
    before = places.long()
    after = (before + 1).clamp(max=last)
    return torch.lerp(units[:, :, before], units[:, :, after], (places - before)[:, None])


def _resize_rows(units: Tensor, axis: AxisResampling) -> Tensor:
    size = axis.output_size, axis.input_size
    if axis.method == 'blocks':
        return functional.avg_pool2d(units, (axis.input_size // axis.output_size, 1))
    if axis.method == 'nearest':
        return functional.interpolate(units, size=size, mode='nearest-exact')
    return functional.interpolate(
        units, size=size, mode=axis.method, align_corners=False, antialias=axis.antialias
    )
