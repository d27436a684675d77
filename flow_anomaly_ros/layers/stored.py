# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Points of the target distribution stored once, and the nearest of them to a restored one."""

from typing import Any, ClassVar

from flow_anomaly_ros.layers.sized import SizedByTraining
import torch
from torch import Tensor
from torch.nn import functional


class StoredPoints(SizedByTraining):
    """Features of N good images at every position: paragraph 72's second images, stored once.

    Args:
        channels: Channels of the features.
        window: A point may come from up to this many positions away.
    """

    # How many points there are, and where.
    free_dimensions: ClassVar = {'stored': (0, 1, 3)}
    points: Tensor
    half_norms: Tensor

    def __init__(self, channels: int, window: int = 1) -> None:
        super().__init__()
        self.window = window
        # Rows, columns, channels, images. Half precision halves the model file; the search works on
        # the float32 copies below.
        self.register_buffer('stored', torch.zeros(1, 1, channels, 1, dtype=torch.float16))
        self._prepare()

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Store NxKxhxw features."""
        self.stored = features.permute(2, 3, 1, 0).to(torch.float16).contiguous()
        self._prepare()

    def _prepare(self) -> None:
        points = self.stored.float()
        self.register_buffer('points', points, persistent=False)
        half_norms = 0.5 * points.square().sum(2)
        self.register_buffer('half_norms', half_norms, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Nearest stored point, in Euclidean distance, to every position of BxKxhxw features."""
        batch, channels, height, width = features.shape
        window = self.window
        # Every position's points are compared with the features around it, not the other way
        # round: the points, by far the larger part, are read once.
        around = functional.unfold(
            features.reshape(1, batch * channels, height, width), 2 * window + 1, padding=window
        )
        offsets = (2 * window + 1) ** 2
        around = around.view(batch, channels, offsets, height * width).permute(3, 0, 2, 1)
        around = around.reshape(height * width, batch * offsets, channels).contiguous()
        likeness = torch.bmm(around, self.points.flatten(0, 1))
        likeness -= self.half_norms.flatten(0, 1)[:, None]
        best, index = likeness.max(2)
        best = self._by_feature(best, batch, (height, width), float('-inf'))
        index = self._by_feature(index, batch, (height, width), 0)
        offset = best.argmax(2)
        index = index.gather(2, offset[:, :, None])[:, :, 0]
        # From offsets of the window to the positions that the points were stored for.
        down, right = offset // (2 * window + 1) - window, offset % (2 * window + 1) - window
        rows = torch.arange(height, device=features.device)[:, None] - down.view(-1, height, width)
        columns = torch.arange(width, device=features.device) - right.view(-1, height, width)
        nearest = self.points[rows, columns, :, index.view(-1, height, width)]
        return nearest.permute(0, 3, 1, 2)

    def _by_feature(
        self, values: Tensor, batch: int, size: tuple[int, int], outside: float
    ) -> Tensor:
        """Reorder values of (points' position, image x offset) to (image, position, offset)."""
        height, width = size
        window, side = self.window, 2 * self.window + 1
        values = values.view(height, width, batch, side, side)
        values = functional.pad(values.permute(2, 3, 4, 0, 1), (window,) * 4, value=outside)
        # A feature at x is offset d away from the points at x - d.
        moved = [
            values[:, i, j, side - 1 - i :][:, :height, side - 1 - j :][:, :, :width]
            for i in range(side)
            for j in range(side)
        ]
        return torch.stack(moved, -1).flatten(1, 2)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._prepare()
