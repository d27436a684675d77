# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Statistical texture: quantisation and counting of similarities, section 1.1."""

import math
from typing import NamedTuple

from flow_anomaly_ros.layers.resample import resize, size_of
import torch
from torch import nn, Tensor
from torch.nn import functional

# Number of regions along each side of the map, per branch of the pyramid.
SCALES = (1, 2, 4, 8)
# Minimum side of a region in positions: pairs of neighbours are counted in it.
MIN_SIDE = 2


class Quantised(NamedTuple):
    """Similarities quantised to levels.

    Attributes:
        levels: BxN, the centre of each level.
        membership: BxKxN in [0, 1]: 1 - |L - M| for the level L nearest to the similarity M of a
            position, 0 for all other levels (equation 1).
    """

    levels: Tensor
    membership: Tensor


def quantise(similarities: Tensor, count: int) -> Quantised:
    """Quantise BxK similarities to `count` levels between their minimum and maximum.

    Equation 1, but levels lie half a step lower and are as wide as their distance, so each position
    belongs to exactly one level.
    """
    low, high = similarities.amin(1, keepdim=True), similarities.amax(1, keepdim=True)
    centres = (torch.arange(count, device=similarities.device) + 0.5) / count
    levels = low + (high - low) * centres
    width = (high - low).clamp(min=torch.finfo(similarities.dtype).eps) / count
    own = ((similarities - low) / width).long().clamp(max=count - 1)
    nearness = 1 - (levels.gather(1, own) - similarities).abs()
    return Quantised(levels, functional.one_hot(own, count) * nearness[..., None])


def similarity_to_mean(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Compare each position of maps with their mean.

    Args:
        maps: BxCxHxW.

    Returns:
        Cosine similarities, BxHxW, and the mean, BxC.
    """
    mean = maps.mean((2, 3))
    return functional.cosine_similarity(maps, mean[:, :, None, None], dim=1), mean


class TextureEnhancement(nn.Module):
    """Texture enhancement module (TEM), one-dimensional: figure 2, equations 1 and 2.

    Args:
        channels: Channels of the map.
        levels: Number of quantisation levels.
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
        """BxCxHxW maps to texture features of the same shape."""
        similarities, mean = similarity_to_mean(maps)
        levels, membership = quantise(similarities.flatten(1), self.levels)
        counts = membership.sum(1) / membership.sum((1, 2))[:, None]
        # Scaled so that a uniform histogram is 1, whatever the number of levels.
        statistics = self.counts(torch.stack([levels, counts * self.levels], -1))
        statistics = self.fuse(torch.cat([statistics, mean[:, None].expand_as(statistics)], -1))
        similarity = self.query(statistics) @ self.key(statistics).mT
        weights = (similarity / math.sqrt(statistics.shape[-1])).softmax(-1)
        texture = membership @ (weights @ self.value(statistics))
        return texture.mT.unflatten(2, size_of(maps))


class PyramidTexture(nn.Module):
    """Pyramid texture feature extraction module (PTFEM), in regions of four sizes: figure 3.

    Args:
        channels: Channels of the map.
        levels: Number of quantisation levels of each of two neighbours.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.pairs = nn.ModuleList(nn.Linear(3, channels) for _ in SCALES)
        self.fuse = nn.ModuleList(nn.Linear(2 * channels, channels) for _ in SCALES)

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW maps to texture features of all branches, Bx(4C)xHxW."""
        size = size_of(maps)
        step = MIN_SIDE * max(SCALES)
        height, width = (-(-length // step) * step for length in size)
        # The regions of a branch must have the same size.
        maps = resize(maps, (height, width))
        textures = []
        for scale, pairs, fuse in zip(SCALES, self.pairs, self.fuse, strict=True):
            regions = _split(maps, scale)
            statistics = pairs(self._count_pairs(regions)).relu().mean(1)
            texture = fuse(torch.cat([statistics, regions.mean((2, 3))], 1))
            grid = texture.unflatten(0, (-1, scale, scale)).permute(0, 3, 1, 2)
            textures.append(resize(grid, size))
        return torch.cat(textures, 1)

    def _count_pairs(self, regions: Tensor) -> Tensor:
        """Co-occurrence histogram of the levels of neighbouring positions.

        Args:
            regions: RxCxhxw.

        Returns:
            RxN*Nx3: for each pair of levels, both centres and the count, scaled so that a uniform
            histogram is 1.
        """
        similarities, _ = similarity_to_mean(regions)
        levels, membership = quantise(similarities.flatten(1), self.levels)
        members = membership.unflatten(1, size_of(regions))
        counts = sum(
            first.flatten(1, 2).mT @ second.flatten(1, 2)
            for first, second in (
                (members[:, :, :-1], members[:, :, 1:]),
                (members[:, :-1], members[:, 1:]),
            )
        )
        shares = counts / counts.sum((1, 2), keepdim=True) * self.levels**2
        rows = levels[:, :, None].expand_as(shares)
        return torch.stack([rows, rows.mT, shares], -1).flatten(1, 2)


def _split(maps: Tensor, scale: int) -> Tensor:
    """Split BxCxHxW maps into scale x scale regions: (B*scale*scale)xCx(H/scale)x(W/scale)."""
    height, width = (length // scale for length in size_of(maps))
    parts = maps.unflatten(3, (scale, width)).unflatten(2, (scale, height))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
