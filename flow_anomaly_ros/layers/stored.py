# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Points of the target distribution stored once, and the nearest of them to a restored one."""

import math
from typing import Any, ClassVar

from flow_anomaly_ros.layers.precision import full_precision
from flow_anomaly_ros.layers.sized import SizedByTraining
import torch
from torch import Tensor
from torch.nn import functional

# Positions whose points are compared with one another at a time: bounds the memory it takes.
CORESET_POSITIONS = 64


class StoredPoints(SizedByTraining):
    """Features of N good images at every position: paragraph 72's second images, stored once.

    Args:
        channels: Channels of the features.
        window: A point may come from up to this many positions away.
        searched: The nearest point is searched in this many of the first channels; 0: in all.
    """

    # How many points there are, and where.
    free_dimensions: ClassVar = {'stored': (0, 1, 3)}
    points: Tensor

    def __init__(self, channels: int, window: int = 1, searched: int = 0) -> None:
        super().__init__()
        self.window = window
        self.searched = min(searched or channels, channels)
        # Rows, columns, channels, points. Half precision halves the model file.
        self.register_buffer('stored', torch.zeros(1, 1, channels, 1, dtype=torch.float16))
        self._prepare()

    @torch.no_grad()
    def fit(self, features: Tensor, most: int = 0) -> None:
        """Store NxKxhxw features.

        Args:
            features: Of N images of good parts.
            most: Points kept at every position, see `coreset`; 0: all.
        """
        points = features.permute(2, 3, 0, 1)
        if 0 < most < len(features):
            points = coreset(points.flatten(0, 1), most).unflatten(0, points.shape[:2])
        self.stored = points.mT.to(torch.float16).contiguous()
        self._prepare()

    def _prepare(self) -> None:
        """Make what the search reads: points in float32, each with minus half its squared norm.

        x is nearest to the point p whose x.p - |p|^2 / 2 is largest.
        """
        points = self.stored[:, :, : self.searched].float().flatten(0, 1)
        offsets = -0.5 * points.square().sum(1, keepdim=True)
        self.register_buffer('points', torch.cat([points, offsets], 1), persistent=False)

    @full_precision
    def forward(self, features: Tensor) -> Tensor:
        """Nearest stored point, in Euclidean distance, to every position of BxKxhxw features."""
        batch, _, height, width = features.shape
        window = self.window
        side = 2 * window + 1
        # Every position's points are compared with the features around it, not the other way
        # round: the points, by far the larger part, are read once.
        sides = (window,) * 4
        # The one that each point's offset is multiplied by comes behind the components.
        padded = functional.pad(features[:, : self.searched], (*sides, 0, 1), value=1.0)
        padded = padded.permute(0, 2, 3, 1).contiguous()
        around = torch.stack(
            [padded[:, i : i + height, j : j + width] for i in range(side) for j in range(side)], 3
        )
        around = around.permute(1, 2, 0, 3, 4).reshape(height * width, batch * side**2, -1)
        likeness = torch.bmm(around, self.points)
        # Image, points' position, offset of the feature from it.
        best = likeness.amax(2).view(height, width, batch, side, side).permute(2, 0, 1, 3, 4)
        best = functional.pad(best, (0, 0, 0, 0, *sides), value=float('-inf'))
        # A feature at x is offset d away from the points at x - d.
        of_feature = torch.stack(
            [
                best[:, side - 1 - i :, side - 1 - j :, i, j][:, :height, :width]
                for i in range(side)
                for j in range(side)
            ],
            3,
        )
        offset = of_feature.argmax(3)
        down, right = offset // side - window, offset % side - window
        rows = torch.arange(height, device=features.device)[:, None] - down
        columns = torch.arange(width, device=features.device) - right
        position = rows * width + columns
        image = torch.arange(batch, device=features.device)[:, None, None]
        index = likeness[position, image * side**2 + offset].argmax(3)
        return self.stored[rows, columns, :, index].to(features).permute(0, 3, 1, 2)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._prepare()


def coreset(points: Tensor, count: int) -> Tensor:
    """Choose points so that all others are near one of them.

    Greedy k-center: the next one is that which is farthest from those chosen so far (Sener and
    Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018;
    as in PatchCore, but for every position by itself).

    Args:
        points: PxNxK, N points of each of P positions.
        count: Points to keep, at most N.

    Returns:
        Px(count)xK.
    """
    return torch.cat([_coreset(some, count) for some in points.split(CORESET_POSITIONS)])


def _coreset(points: Tensor, count: int) -> Tensor:
    chosen = [points[:, :1]]
    nearest = points.new_full(points.shape[:2], math.inf)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (points - chosen[-1]).square().sum(2))
        farthest = nearest.argmax(1)[:, None, None].expand(-1, 1, points.shape[2])
        chosen.append(points.gather(1, farthest))
    return torch.cat(chosen, 1)
