# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The statistical texture network: quantising and counting of similarities, section 1.1."""

import math
from typing import NamedTuple

from flow_anomaly_ros.layers.resample import resize, size_of
import torch
from torch import nn, Tensor
from torch.nn import functional

# Regions along each side of the map, by branch of the pyramid.
SCALES = (1, 2, 4, 8)
# A region needs neighbours to count: this many positions along each side, at least.
MIN_SIDE = 2


class Quantised(NamedTuple):
    """Similarities sorted into levels.

    Attributes:
        levels: BxN, the middle of each level.
        membership: BxKxN in [0, 1]: 1 - |L - M| where L is the level that the similarity M of a
            position lies in, 0 for all other levels (equation 1).
    """

    levels: Tensor
    membership: Tensor


def quantise(similarities: Tensor, count: int) -> Quantised:
    """Sort BxK similarities into `count` levels between their least and their largest one.

    Equation 1, with levels half a step lower and as wide as they are apart, so that every position
    is in one and only one.
    """
    least, most = similarities.amin(1, keepdim=True), similarities.amax(1, keepdim=True)
    middles = (torch.arange(count, device=similarities.device) + 0.5) / count
    levels = least + (most - least) * middles
    width = (most - least).clamp(min=torch.finfo(similarities.dtype).eps) / count
    own = ((similarities - least) / width).long().clamp(max=count - 1)
    nearness = 1 - (levels.gather(1, own) - similarities).abs()
    return Quantised(levels, functional.one_hot(own, count) * nearness[..., None])


def similarity_to_mean(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of each position of BxCxHxW maps with their mean, BxHxW, and the mean, BxC."""
    mean = maps.mean((2, 3))
    return functional.cosine_similarity(maps, mean[:, :, None, None], dim=1), mean


class TextureEnhancement(nn.Module):
    """One-dimensional quantising and counting (TEM): figure 2, equations 1 and 2.

    Args:
        channels: Channels of the map.
        levels: Levels of the quantisation.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.counts = nn.Sequential(
            nn.Linear(2, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU()
        )
        self.fuse = nn.Linear(2 * channels, channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW to the texture at each position, of the same shape."""
        similarities, mean = similarity_to_mean(maps)
        levels, membership = quantise(similarities.flatten(1), self.levels)
        counts = membership.sum(1) / membership.sum((1, 2))[:, None]
        # Equal shares are 1, whatever the number of levels.
        statistics = self.counts(torch.stack([levels, counts * self.levels], -1))
        statistics = self.fuse(torch.cat([statistics, mean[:, None].expand_as(statistics)], -1))
        likeness = self.query(statistics) @ self.key(statistics).mT
        weights = (likeness / math.sqrt(statistics.shape[-1])).softmax(-1)
        texture = membership @ (weights @ self.value(statistics))
        return texture.mT.unflatten(2, size_of(maps))


class PyramidTexture(nn.Module):
    """Two-dimensional quantising and counting in regions of four sizes (PTFEM): figure 3.

    Args:
        channels: Channels of the map.
        levels: Levels of each of two neighbours.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.pairs = nn.ModuleList(nn.Linear(3, channels) for _ in SCALES)
        self.fuse = nn.ModuleList(nn.Linear(2 * channels, channels) for _ in SCALES)

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW to the textures of all branches, Bx(4C)xHxW."""
        size = size_of(maps)
        step = MIN_SIDE * max(SCALES)
        height, width = (-(-length // step) * step for length in size)
        # Regions of a branch are all of one size.
        maps = resize(maps, (height, width))
        textures = []
        for scale, pairs, fuse in zip(SCALES, self.pairs, self.fuse, strict=True):
            regions = _split(maps, scale)
            statistics = pairs(self._neighbours(regions)).relu().mean(1)
            texture = fuse(torch.cat([statistics, regions.mean((2, 3))], 1))
            grid = texture.unflatten(0, (-1, scale, scale)).permute(0, 3, 1, 2)
            textures.append(resize(grid, size))
        return torch.cat(textures, 1)

    def _neighbours(self, regions: Tensor) -> Tensor:
        """How often each pair of levels is side by side in RxCxhxw regions, RxN*Nx3.

        Of each pair the middles of both levels and the count; equal shares are 1.
        """
        similarities, _ = similarity_to_mean(regions)
        levels, membership = quantise(similarities.flatten(1), self.levels)
        placed = membership.unflatten(1, size_of(regions))
        counts = sum(
            one.flatten(1, 2).mT @ other.flatten(1, 2)
            for one, other in (
                (placed[:, :, :-1], placed[:, :, 1:]),
                (placed[:, :-1], placed[:, 1:]),
            )
        )
        shares = counts / counts.sum((1, 2), keepdim=True) * self.levels**2
        rows = levels[:, :, None].expand_as(shares)
        return torch.stack([rows, rows.mT, shares], -1).flatten(1, 2)


def _split(maps: Tensor, scale: int) -> Tensor:
    """Cut BxCxHxW maps into scale x scale regions: (B*scale*scale)xCx(H/scale)x(W/scale)."""
    height, width = (length // scale for length in size_of(maps))
    parts = maps.unflatten(3, (scale, width)).unflatten(2, (scale, height))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
