# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Points of the target distribution stored once, and the nearest of them to a restored one."""

import math
from typing import Any, ClassVar

from flow_anomaly_ros.detectors.restoration.dynamic_buffers import DynamicBufferMixin
from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import Tensor
from torch.nn import functional

# Positions whose points are compared with one another at a time: bounds the memory it takes.
POSITIONS_AT_ONCE = 64


class MemoryBank(DynamicBufferMixin):
    """Features of N good images at every position: paragraph 72's second images, stored once.

    Args:
        channels: Channels of the features.
        window: A point may come from up to this many positions away.
        searched: The nearest point is searched in this many of the first channels; 0: in all.
    """

    # How many points there are, and where.
    dynamic_dimensions: ClassVar = {'stored': (0, 1, 3)}
    points: Tensor
    found: Tensor
    neighbours: Tensor
    places: Tensor
    offsets: Tensor

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
            most: Points kept at every position, see `k_center_greedy`; 0: all.
        """
        points = features.permute(2, 3, 0, 1)
        if 0 < most < len(features):
            points = k_center_greedy(points.flatten(0, 1), most).unflatten(0, points.shape[:2])
        self.stored = points.mT.to(torch.float16).contiguous()
        self._prepare()

    def _prepare(self) -> None:
        """Make what the search reads, from the points and from where they are.

        The points come in float32, each with minus half its squared norm: x is nearest to the point
        p whose x.p - |p|^2 / 2 is largest. Of those that are `found` the channels lie side by side.
        """
        height, width = self.stored.shape[:2]
        points = self.stored[:, :, : self.searched].float().flatten(0, 1)
        norms = -0.5 * points.square().sum(1, keepdim=True)
        made = {
            'points': torch.cat([points, norms], 1),
            'found': self.stored.mT.flatten(0, 2).contiguous(),
            **_around(height, width, self.window),
        }
        for name, tensor in made.items():
            self.register_buffer(name, tensor.to(self.stored.device), persistent=False)

    @autocast_disabled
    def forward(self, features: Tensor) -> Tensor:
        """Nearest stored point, in Euclidean distance, to every position of BxKxhxw features."""
        batch, channels, height, width = features.shape
        in_window = self.offsets.shape[1]
        # The one that each point's norm is multiplied by comes behind the components.
        searched = functional.pad(features[:, : self.searched], (0, 0, 0, 0, 0, 1), value=1.0)
        searched = searched.permute(2, 3, 0, 1).flatten(0, 1)
        # Every position's points are compared with the features around it, not the other way
        # round: the points, by far the larger part, are read once.
        around = searched.index_select(0, self.neighbours).unflatten(0, (-1, in_window))
        likeness = torch.bmm(around.transpose(1, 2).flatten(1, 2), self.points)
        # Where the points are that each feature was compared with: image, position, offset.
        images = torch.arange(batch, device=features.device)[:, None, None]
        compared = (self.places * batch + images) * in_window + self.offsets
        best = likeness.amax(2).flatten().index_select(0, compared.flatten()).view(compared.shape)
        chosen = compared.gather(2, best.argmax(2, keepdim=True)).flatten()
        point = likeness.flatten(0, 1).index_select(0, chosen).argmax(1)
        point += chosen // likeness.shape[1] * likeness.shape[2]
        nearest = self.found.index_select(0, point).to(features)
        return nearest.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._prepare()


def _around(height: int, width: int, window: int) -> dict[str, Tensor]:
    """Which features the points of each of P positions are compared with, and the reverse.

    Returns:
        `neighbours`: for the points of each position the features around it, P times the W of
        a window; past the border the nearest one, which nobody asks for.
        `places`, `offsets`: PxW, for each feature the positions of the points it was compared with
        and where it was then in their windows; past the border its own position once more.
    """
    steps = torch.arange(-window, window + 1)
    down, right = (x.flatten() for x in torch.meshgrid(steps, steps, indexing='ij'))
    rows, columns = torch.arange(height)[:, None, None], torch.arange(width)[:, None]
    own = rows * width + columns
    neighbours = (rows + down).clamp(0, height - 1) * width + (columns + right).clamp(0, width - 1)
    # A feature at x is offset d away from the points at x - d.
    row, column = rows - down, columns - right
    is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    centre = len(down) // 2
    return {
        'neighbours': neighbours.flatten(),
        'places': torch.where(is_inside, row * width + column, own).flatten(0, 1),
        'offsets': torch.where(is_inside, torch.arange(len(down)), centre).flatten(0, 1),
    }


def k_center_greedy(points: Tensor, count: int) -> Tensor:
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
    return torch.cat([_k_center_greedy(some, count) for some in points.split(POSITIONS_AT_ONCE)])


def _k_center_greedy(points: Tensor, count: int) -> Tensor:
    chosen = [points[:, :1]]
    nearest = points.new_full(points.shape[:2], math.inf)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (points - chosen[-1]).square().sum(2))
        farthest = nearest.argmax(1)[:, None, None].expand(-1, 1, points.shape[2])
        chosen.append(points.gather(1, farthest))
    return torch.cat(chosen, 1)
