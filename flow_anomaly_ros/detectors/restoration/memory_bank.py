# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Memory bank: features of good parts at each position, and the search for the nearest."""

import math
from typing import Any, ClassVar

from flow_anomaly_ros.detectors.restoration.dynamic_buffers import DynamicBufferMixin
from flow_anomaly_ros.layers.precision import autocast_disabled
import torch
from torch import Tensor
from torch.nn import functional

# Positions that k-center greedy processes at once; bounds its memory.
POSITIONS_PER_BATCH = 64


class MemoryBank(DynamicBufferMixin):
    """Features of N good images at each position, as candidates for the nearest-neighbour search.

    The nearest candidates take the role of the "second images" of US 2025/0265693 A1, paragraph 72.

    Args:
        channels: Channels of the features.
        window: Radius of the search window in positions: candidates come from the position itself
            and from all others within this distance.
        searched: Number of leading channels that the search compares; 0: all.
    """

    # Rows, columns and candidates per position depend on the training images.
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
        # Rows, columns, channels, candidates. Half precision halves the size of the model file.
        self.register_buffer('bank', torch.zeros(1, 1, channels, 1, dtype=torch.float16))
        self._prepare_search()

    @torch.no_grad()
    def fit(self, features: Tensor, max_candidates: int = 0) -> None:
        """Fill the bank.

        Args:
            features: NxKxhxw features of N images of good parts.
            max_candidates: Candidates to keep at each position, selected by `k_center_greedy`;
                0: all N.
        """
        candidates = features.permute(2, 3, 0, 1)
        if 0 < max_candidates < len(features):
            grid = candidates.shape[:2]
            candidates = k_center_greedy(candidates.flatten(0, 1), max_candidates)
            candidates = candidates.unflatten(0, grid)
        self.bank = candidates.mT.to(torch.float16).contiguous()
        self._prepare_search()

    def _prepare_search(self) -> None:
        """Derive the buffers of the search from the bank; they are not part of the state dict.

        - candidates: Px(searched + 1)xN in float32. The last channel is -|p|^2 / 2 of a candidate
          p: the nearest candidate to x maximises x.p - |p|^2 / 2.
        - bank_rows: (P*N)xK, all channels of each candidate contiguous.
        - Index tables, see `_window_indices`.
        """
        height, width = self.bank.shape[:2]
        compared = self.bank[:, :, : self.searched].float().flatten(0, 1)
        half_norms = -0.5 * compared.square().sum(1, keepdim=True)
        buffers = {
            'candidates': torch.cat([compared, half_norms], 1),
            'bank_rows': self.bank.mT.flatten(0, 2).contiguous(),
            **_window_indices(height, width, self.window),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.to(self.bank.device), persistent=False)

    @autocast_disabled
    def forward(self, features: Tensor) -> Tensor:
        """Find the nearest candidate, in Euclidean distance, to the feature of each position.

        Args:
            features: BxKxhxw features; h and w are those of the bank.

        Returns:
            BxKxhxw: the nearest candidates.
        """
        batch, channels, height, width = features.shape
        window_size = self.window_offsets.shape[1]
        # A constant channel of ones multiplies the half norms of the candidates.
        queries = functional.pad(features[:, : self.searched], (0, 0, 0, 0, 0, 1), value=1.0)
        queries = queries.permute(2, 3, 0, 1).flatten(0, 1)
        # The candidates of each position are compared with the features around it, not the other
        # way round: so the candidates, by far the larger tensor, are read only once.
        queries = queries.index_select(0, self.neighbour_positions)
        queries = queries.unflatten(0, (-1, window_size))
        similarity = torch.bmm(queries.transpose(1, 2).flatten(1, 2), self.candidates)
        # For each feature, the rows of `similarity` in which it was compared: one row per position
        # of the candidates, image and offset in the window.
        images = torch.arange(batch, device=features.device)[:, None, None]
        rows = (self.window_positions * batch + images) * window_size + self.window_offsets
        row_maxima = similarity.amax(2).flatten().index_select(0, rows.flatten()).view(rows.shape)
        best_row = rows.gather(2, row_maxima.argmax(2, keepdim=True)).flatten()
        nearest = similarity.flatten(0, 1).index_select(0, best_row).argmax(1)
        nearest += best_row // similarity.shape[1] * similarity.shape[2]
        found = self.bank_rows.index_select(0, nearest).to(features)
        return found.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._prepare_search()


def _window_indices(height: int, width: int, window: int) -> dict[str, Tensor]:
    """Index tables between P = height * width positions and their windows of W positions.

    Returns:
        `neighbour_positions`: P*W, the positions in the window of each position, clamped to the
        grid; comparisons with clamped ones are never read.
        `window_positions`, `window_offsets`: PxW. For each position, the positions whose windows
        contain it, and its offset in each of those windows. Those outside the grid are replaced by
        the position itself and the centre of its window.
    """
    steps = torch.arange(-window, window + 1)
    down, right = (x.flatten() for x in torch.meshgrid(steps, steps, indexing='ij'))
    rows, columns = torch.arange(height)[:, None, None], torch.arange(width)[:, None]
    own = rows * width + columns
    neighbours = (rows + down).clamp(0, height - 1) * width + (columns + right).clamp(0, width - 1)
    # A position x is at offset d in the window of the position x - d.
    row, column = rows - down, columns - right
    is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    centre = len(down) // 2
    return {
        'neighbour_positions': neighbours.flatten(),
        'window_positions': torch.where(is_inside, row * width + column, own).flatten(0, 1),
        'window_offsets': torch.where(is_inside, torch.arange(len(down)), centre).flatten(0, 1),
    }


def k_center_greedy(points: Tensor, count: int) -> Tensor:
    """Select a coreset of the points of each position by greedy k-center selection.

    The first point is selected, then repeatedly the point that is farthest from all selected ones
    (Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach",
    ICLR 2018; PatchCore selects one coreset for all positions).

    Args:
        points: PxNxK, N points of each of P positions.
        count: Number of points to select per position, at most N.

    Returns:
        Px(count)xK.
    """
    batches = points.split(POSITIONS_PER_BATCH)
    return torch.cat([_select_farthest(batch, count) for batch in batches])


def _select_farthest(points: Tensor, count: int) -> Tensor:
    selected = [points[:, :1]]
    distances = points.new_full(points.shape[:2], math.inf)
    for _ in range(count - 1):
        distances = torch.minimum(distances, (points - selected[-1]).square().sum(2))
        farthest = distances.argmax(1)[:, None, None].expand(-1, 1, points.shape[2])
        selected.append(points.gather(1, farthest))
    return torch.cat(selected, 1)
