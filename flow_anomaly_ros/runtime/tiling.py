# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiling: large images are cut into overlapping tiles, whose scores are blended."""

from collections.abc import Callable, Sequence
import itertools
import math
from typing import NamedTuple

from flow_anomaly_ros.detectors.base import Detector, DetectorOutput
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import Tensor

# Sides of tiles are multiples of this, so that tiles start in the same phase of every stride up to
# 32 px: half of one is where the next starts.
TILE_MULTIPLE = 64
# Tiles are blended in the middle of their overlap, over this share of a tile. The outer parts of it
# belong to the other tile alone: there the zeros that networks pad with and the reflections of the
# smoothing are felt.
RAMP = 1 / 8
# MiB that the tiles that go through the detector at once may take.
MAX_BATCH_MIB = 512
# More than a pixel of them takes at the peak: on tiles of 256 px 250 were measured with
# mobilenet_v2, 350 with blocks of pixels and 900 with wide_resnet50_2.
BYTES_PER_PIXEL = 1024
# Pixels of all tiles that a detector is trained on; methods keep the features of all of them.
MAX_TRAINING_PIXELS = 400 * 256**2


class _Place(NamedTuple):
    """Where a tile is: the image, row and column among its tiles, and the pixels."""

    image: int
    row: int
    column: int
    down: slice
    right: slice


def require_tile(tile: int, size: tuple[int, int]) -> None:
    """Check the size of tiles.

    Args:
        tile: Side of a tile in px.
        size: (height, width) in px of the images that are cut.

    Raises:
        ValueError: It is no multiple of `TILE_MULTIPLE`, or larger than the images; one line.
    """
    if tile < TILE_MULTIPLE or tile % TILE_MULTIPLE:
        msg = f'tile is {tile} px: it must be a multiple of {TILE_MULTIPLE}, such as 256'
        raise ValueError(msg)
    if tile > min(size):
        msg = (
            f'tile is {tile} px, but images are resized to {size[1]}x{size[0]} px: it must not be '
            'larger than their shorter side; raise --image-size if the camera has more pixels, or '
            'do not tile'
        )
        raise ValueError(msg)


def tile_starts(size: int, tile: int) -> list[int]:
    """Return where tiles start along a side; the last one ends at the border.

    Each overlaps the one before it by half; the last one by more, where half a tile does not divide
    the side.

    Args:
        size: Height or width of the image in px.
        tile: Side of a tile in px, at most `size`.
    """
    return [*range(0, size - tile, tile // 2), size - tile]


def blending_weights(size: int, tile: int, device: torch.device | None = None) -> Tensor:
    """Return the weight of each tile along a side.

    1 up to the middle of the overlap with the next tile, where that takes over in a linear ramp; 0
    beyond. At the image's own border there is no other tile: the weight is 1.

    Args:
        size: Height or width of the image in px.
        tile: Side of a tile in px, at most `size`.
        device: Where the weights are to be.

    Returns:
        One row per tile, `size` columns, in [0, 1]; each column sums to 1.
    """
    centres = torch.arange(size, device=device) + 0.5
    # The share of all tiles behind each seam: its differences are those of single tiles.
    behind = [torch.ones_like(centres)]
    for seam in _seams(size, tile):
        behind.append(((centres - seam) / (RAMP * tile) + 0.5).clamp(0, 1))
    behind.append(torch.zeros_like(centres))
    return -torch.stack(behind).diff(dim=0)


def _seams(size: int, tile: int) -> list[float]:
    """The middles of the overlaps of tiles along a side, in px."""
    return [(one + tile + other) / 2 for one, other in itertools.pairwise(tile_starts(size, tile))]


def _counting(size: int, tile: int) -> list[slice]:
    """Where each tile along a side counts: its `blending_weights` are not 0."""
    half, seams = RAMP * tile / 2, _seams(size, tile)
    starts = [0, *(math.floor(seam - half + 0.5) for seam in seams)]
    stops = [*(math.ceil(seam + half - 0.5) for seam in seams), size]
    return [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]


class TiledDetector(Detector):
    """A detector of whole images made from one that was trained on tiles of them.

    Args:
        detector: Sees tiles only.
        tile: Side of a tile in px, see `require_tile`.
        memory: As of `score_tiles`.
    """

    def __init__(self, detector: Detector, tile: int, memory: int = MAX_BATCH_MIB) -> None:
        super().__init__(detector.config)
        self.detector = detector
        self.tile = tile
        self.memory = memory

    @property
    def has_comparable_maps(self) -> bool:
        """See `Detector.has_comparable_maps`."""
        return self.detector.has_comparable_maps

    def forward(self, images: Tensor, classes: Tensor | None = None) -> DetectorOutput:
        """Score images; see `Detector.forward`. H and W are at least the side of a tile."""
        return score_tiles(self.detector, images, self.tile, self.memory)

    def explain(self, images: Tensor, classes: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Explain the tile with the highest score of each image.

        Returns:
            A row with the tile itself, and (left, top) in px of where it lies; then the detector's
            own rows.
        """
        rows, columns = (blending_weights(size, self.tile) for size in size_of(images))
        places = _places(images, self.tile)
        chosen = []
        for image, score_map in enumerate(self(images).score_map):
            y, x = divmod(int(score_map.argmax()), score_map.shape[1])
            # Of the tiles that share a peak in an overlap, the one that counts most there.
            chosen.append(
                max(
                    (place for place in places if place.image == image),
                    key=lambda place: rows[place.row, y] * columns[place.column, x],
                )
            )
        tiles = _cut(images, chosen)
        where = ', '.join(f'({place.right.start}, {place.down.start})' for place in chosen)
        return [{f'tile at {where}': tiles}, *self.detector.explain(tiles)]


def cut_training_tiles(images: Tensor, tile: int, seed: int) -> tuple[Tensor, list[str]]:
    """Cut good images into tiles to train on, at most `MAX_TRAINING_PIXELS`, in random order.

    Args:
        images: NxCxHxW; H and W are at least the side of a tile.
        tile: Side of a tile in px, see `require_tile`.
        seed: Decides the order, and which tiles are left out.

    Returns:
        KxCx(tile)x(tile), and a line if some were left out.
    """
    places = _places(images, tile)
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(1, MAX_TRAINING_PIXELS // tile**2)].tolist()
    tiles = _cut(images, [places[index] for index in chosen])
    if len(chosen) == len(places):
        return tiles, []
    note = (
        f'trained on {len(chosen)} of {len(places)} tiles, chosen at random: all of them would '
        'take too much memory'
    )
    return tiles, [note]


def score_tiles(
    detect: Callable[[Tensor], DetectorOutput],
    images: Tensor,
    tile: int,
    memory: int = MAX_BATCH_MIB,
) -> DetectorOutput:
    """Score images by their tiles.

    The score map is blended from those of overlapping tiles; what a detector says of the border of
    a tile is in it only where that is the border of the image. The image score is the largest of a
    tile, but of each no more than the largest value of the score map where the tile counts: a
    method may trust some places less, such as the border of the image, but the border of a tile
    adds nothing.

    Args:
        detect: Scores tiles, BxCx(tile)x(tile).
        images: BxCxHxW; H and W are at least the side of a tile.
        tile: Side of a tile in px, see `require_tile`.
        memory: MiB that the tiles that are scored at once may take, by the estimate of
            `BYTES_PER_PIXEL`; one does so in any case.
    """
    rows, columns = (blending_weights(x, tile, images.device) for x in size_of(images))
    score_map = torch.zeros(len(images), *size_of(images), device=images.device)
    places = _places(images, tile)
    at_once = max(1, memory * 2**20 // (BYTES_PER_PIXEL * tile**2))
    tile_scores = []
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        output = detect(_cut(images, some))
        tile_scores.append(output.image_score)
        for tile_map, (image, row, column, down, right) in zip(output.score_map, some, strict=True):
            weights = rows[row, down, None] * columns[column, right]
            score_map[image, down, right] += weights * tile_map
    downs, rights = (_counting(x, tile) for x in size_of(images))
    peaks = torch.stack(
        [score_map[place.image, downs[place.row], rights[place.column]].amax() for place in places]
    )
    image_score = torch.minimum(torch.cat(tile_scores), peaks).view(len(images), -1).amax(1)
    return DetectorOutput(score_map, image_score)


def _places(images: Tensor, tile: int) -> list[_Place]:
    downs, rights = (
        [slice(start, start + tile) for start in tile_starts(size, tile)]
        for size in size_of(images)
    )
    return [
        _Place(image, row, column, down, right)
        for image in range(len(images))
        for row, down in enumerate(downs)
        for column, right in enumerate(rights)
    ]


def _cut(images: Tensor, places: Sequence[_Place]) -> Tensor:
    return torch.stack([images[place.image, :, place.down, place.right] for place in places])


def tiled(detector: Detector, tile: int | None) -> Detector:
    """Return a detector of whole images: tiled if there is a tile, else the detector itself."""
    return detector if tile is None else TiledDetector(detector, tile)


def untiled(detector: Detector) -> Detector:
    """Return the detector of single tiles, or the detector itself: what a model file holds."""
    return detector.detector if isinstance(detector, TiledDetector) else detector
