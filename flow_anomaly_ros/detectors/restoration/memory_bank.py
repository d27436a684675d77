# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Memory bank: features of good images at every position, searched for the nearest neighbour."""

import math
from typing import Any, ClassVar

from flow_anomaly_ros.detectors.restoration.dynamic_buffers import DynamicBufferMixin
from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import Tensor
from torch.nn import functional

# Positions whose coresets are selected at a time: bounds the memory use.
POSITIONS_AT_ONCE = 64


class MemoryBank(DynamicBufferMixin):
    """Features of good images at every position; replaces a feature by its nearest neighbour.

    These are the second images of US 2025/0265693 A1, paragraph 72, stored once. PatchCore (Roth et
    al., CVPR 2022) has one bank for all positions; here every position has its own.

    Args:
        channels: Channels of the features.
        window: The nearest neighbour may come from up to this many positions away.
        searched: Channels, the first ones, that the nearest neighbour is searched in; 0: all.
    """

    # Grid and number of features per position.
    dynamic_dimensions: ClassVar = {'bank': (0, 1, 3)}
    bank: Tensor
    candidates: Tensor
    bank_rows: Tensor
    neighbour_positions: Tensor
    window_positions: Tensor
    window_offsets: Tensor

    def __init__(self, channels: int, window: int = 1, searched: int = 0) -> None:
        super().__init__()
        self.window = window
        self.searched = min(searched or channels, channels)
        # Rows, columns, channels, features. Half precision halves the model file.
        self.register_buffer('bank', torch.zeros(1, 1, channels, 1, dtype=torch.float16))
        self._prepare()

    @torch.no_grad()
    def fit(self, features: Tensor, coreset_size: int = 0) -> None:
        """Fill the bank.

        Args:
            features: NxKxhxw, of N images of good parts.
            coreset_size: Features kept at every position, see `k_center_greedy`; 0: all.
        """
        points = features.permute(2, 3, 0, 1)
        if 0 < coreset_size < len(features):
            points = k_center_greedy(points.flatten(0, 1), coreset_size).unflatten(
                0, points.shape[:2]
            )
        self.bank = points.mT.to(torch.float16).contiguous()
        self._prepare()

    def _prepare(self) -> None:
        """Precompute what the search reads.

        `candidates` are float32, each with minus half its squared norm: x is nearest to the p whose
        x.p - |p|^2 / 2 is largest. `bank_rows` hold the channels of a feature contiguously.
        """
        height, width = self.bank.shape[:2]
        candidates = self.bank[:, :, : self.searched].float().flatten(0, 1)
        norms = -0.5 * candidates.square().sum(1, keepdim=True)
        made = {
            'candidates': torch.cat([candidates, norms], 1),
            'bank_rows': self.bank.mT.flatten(0, 2).contiguous(),
            **_around(height, width, self.window),
        }
        for name, tensor in made.items():
            self.register_buffer(name, tensor.to(self.bank.device), persistent=False)

    @autocast_disabled
    def forward(self, features: Tensor) -> Tensor:
        """Replace BxKxhxw features by their nearest neighbours, in Euclidean distance."""
        batch, channels, height, width = features.shape
        in_window = self.window_offsets.shape[1]
        # A constant 1 multiplies the norms of the candidates.
        searched = functional.pad(features[:, : self.searched], (0, 0, 0, 0, 0, 1), value=1.0)
        searched = searched.permute(2, 3, 0, 1).flatten(0, 1)
        # The candidates of a position are compared with the features around it, not the other way
        # round: the candidates, by far the larger tensor, are read once.
        around = searched.index_select(0, self.neighbour_positions).unflatten(0, (-1, in_window))
        likeness = torch.bmm(around.transpose(1, 2).flatten(1, 2), self.candidates)
        # Where each feature was compared: position of the candidates, image, offset in the window.
        images = torch.arange(batch, device=features.device)[:, None, None]
        compared = (self.window_positions * batch + images) * in_window + self.window_offsets
        best = likeness.amax(2).flatten().index_select(0, compared.flatten()).view(compared.shape)
        chosen = compared.gather(2, best.argmax(2, keepdim=True)).flatten()
        point = likeness.flatten(0, 1).index_select(0, chosen).argmax(1)
        point += chosen // likeness.shape[1] * likeness.shape[2]
        nearest = self.bank_rows.index_select(0, point).to(features)
        return nearest.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._prepare()


def _around(height: int, width: int, window: int) -> dict[str, Tensor]:
    """Index tables between features and the candidates that they are compared with.

    Returns:
        `neighbour_positions`: P*W positions of the features around each of P positions, W in a
        window; past the border the nearest one, which is not read back.
        `window_positions`, `window_offsets`: PxW, for each feature the positions of the candidates
        it was compared with and its offset in their windows; past the border its own position.
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
        'neighbour_positions': neighbours.flatten(),
        'window_positions': torch.where(is_inside, row * width + column, own).flatten(0, 1),
        'window_offsets': torch.where(is_inside, torch.arange(len(down)), centre).flatten(0, 1),
    }


def k_center_greedy(points: Tensor, count: int) -> Tensor:
    """Select a coreset: points such that every other point is near one of them.

    Greedy k-center selection: the next point is the one farthest from those selected so far (Sener
    and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR
    2018; as in PatchCore, but for every position separately).

    Args:
        points: PxNxK, N points at each of P positions.
        count: Points to select, at most N.

    Returns:
        Px(count)xK.
    """
    return torch.cat([_select(positions, count) for positions in points.split(POSITIONS_AT_ONCE)])


def _select(points: Tensor, count: int) -> Tensor:
    selected = [points[:, :1]]
    nearest = points.new_full(points.shape[:2], math.inf)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (points - selected[-1]).square().sum(2))
        farthest = nearest.argmax(1)[:, None, None].expand(-1, 1, points.shape[2])
        selected.append(points.gather(1, farthest))
    return torch.cat(selected, 1)
