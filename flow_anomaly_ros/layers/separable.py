# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Averaging, resizing and smoothing of maps in one go, as a matrix for either direction.

All three are linear and treat rows and columns alike. Two products with small matrices take a
fraction of the time of the operations themselves, and every runtime has them.
"""

from dataclasses import dataclass

from flow_anomaly_ros.layers.inference import is_channels_last
from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur


@dataclass(frozen=True)
class AxisResampling:
    """What happens to the rows, or to the columns, of a map.

    Attributes:
        length: Positions before.
        target: Positions after resizing.
        window: First, each position becomes the average of this many around it, odd; at the border
            they are fewer.
        method: How they are resized: `blocks` (averages, `target` divides `length`), `bilinear`,
            `bicubic` or `nearest`.
        antialias: Whether every position counts where `bilinear` shrinks.
        deviation: Standard deviation in positions of the Gaussian that smooths last; 0: none.
        reach: Where it is cut off.
    """

    length: int
    target: int
    window: int = 1
    method: str = 'bilinear'
    antialias: bool = False
    deviation: float = 0.0
    reach: int = 0

    @property
    def is_identity(self) -> bool:
        """Whether nothing happens at all."""
        return self.length == self.target and self.window == 1 and self.deviation == 0


# There are as many as there are sizes of maps in the models of a process.
_MATRICES: dict[tuple[AxisResampling, torch.device, torch.dtype], Tensor] = {}


@autocast_disabled
def resample(maps: Tensor, rows: AxisResampling, columns: AxisResampling) -> Tensor:
    """Apply an operation to the rows and one to the columns of BxCxHxW maps."""
    if rows.is_identity and columns.is_identity:
        return maps
    if not is_channels_last(maps):
        return _matrix(rows, maps) @ (maps.contiguous() @ _matrix(columns, maps).mT)
    positions = maps.permute(0, 2, 3, 1)
    of_rows = _matrix(rows, maps) @ positions.flatten(2)
    of_both = _matrix(columns, maps) @ of_rows.unflatten(2, positions.shape[2:])
    return of_both.permute(0, 3, 1, 2)


def _matrix(axis: AxisResampling, like: Tensor) -> Tensor:
    key = axis, like.device, like.dtype
    if key not in _MATRICES:
        # Training may follow, which cannot use tensors of inference mode.
        with torch.inference_mode(mode=False), torch.no_grad():
            _MATRICES[key] = _build(axis).to(like)
    return _MATRICES[key]


def _build(axis: AxisResampling) -> Tensor:
    """The matrix, (target)x(length): what the operation makes of every unit vector."""
    # An image whose columns are the unit vectors; nothing below mixes columns.
    units = torch.eye(axis.length, dtype=torch.float64)[None, None]
    if axis.window > 1:
        # Zeros around the image would make everything at its border look alike.
        units = functional.avg_pool2d(
            units, (axis.window, 1), 1, (axis.window // 2, 0), count_include_pad=False
        )
    if axis.target != axis.length:
        units = _resize(units, axis)
    if axis.deviation > 0:
        # torchvision gives the kernel's width first.
        units = gaussian_blur(units, [1, 2 * axis.reach + 1], [axis.deviation] * 2)
    return units[0, 0]


def _resize(units: Tensor, axis: AxisResampling) -> Tensor:
    size = axis.target, axis.length
    if axis.method == 'blocks':
        return functional.avg_pool2d(units, (axis.length // axis.target, 1))
    if axis.method == 'nearest':
        return functional.interpolate(units, size=size, mode='nearest-exact')
    return functional.interpolate(
        units, size=size, mode=axis.method, align_corners=False, antialias=axis.antialias
    )
