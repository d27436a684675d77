# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where a network really looks: how far its feature maps lie from the pixels they stand for.

A position of a map with a stride of 8 px stands for a block of 8x8 px. With the usual padding each
strided convolution is centred on the first pixel of its block, and learned kernels lean to one side
as well, so what a position sees lies up to a stride above and to the left of its block. Score maps
drawn without this offset lie that far below and to the right of the defects.
"""

from collections.abc import Callable, Sequence

from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import Tensor

# How many patches are changed, in how many images, and their side in px.
PATCHES, IMAGES, PATCH_SIDE = 32, 8, 6
# Of larger images the centre is enough: networks look alike everywhere.
MAX_SIDE = 256


@torch.no_grad()
def measure_level_offsets(
    extract: Callable[[Tensor], list[Tensor]], images: Tensor, strides: Sequence[int]
) -> Tensor:
    """Change small patches of images and see where the features change.

    Args:
        extract: Maps BxCxHxW images to one BxCixhixwi map per level.
        images: NxCxHxW in [0, 1].
        strides: Of the levels, in px.

    Returns:
        Lx2 (down, right) offsets in px from what a position of each level sees to the centre of the
        block of pixels that it stands for: medians over the patches. 0 where no feature changes.
    """
    generator = torch.Generator().manual_seed(0)
    multiple = max(strides)
    height, width = (min(MAX_SIDE, side) // multiple * multiple or side for side in size_of(images))
    top, left = (
        (old - new) // 2 for old, new in zip(size_of(images), (height, width), strict=True)
    )
    # Successive images resemble each other.
    images = images[:: -(-len(images) // IMAGES)]
    images = images[:, :, top : top + height, left : left + width]
    offsets = []
    for image in images:
        before = extract(image[None])
        changed, centres = zip(
            *(_change_patch(image, generator) for _ in range(-(-PATCHES // len(images)))),
            strict=True,
        )
        after = extract(torch.stack(changed))
        offsets.append(
            torch.stack(
                [
                    _centroids((y - x).square().mean(1), (height, width)) - torch.tensor(centres)
                    for x, y in zip(before, after, strict=True)
                ]
            )
        )
    return torch.cat(offsets, 1).nanmedian(1).values.nan_to_num()


def _change_patch(image: Tensor, generator: torch.Generator) -> tuple[Tensor, list[float]]:
    """Paint a patch in the middle half of a CxHxW image; return its centre in px too."""
    corner, sides = [], []
    for side in size_of(image):
        first = side // 4 + int(torch.randint(max(1, side // 2), (), generator=generator))
        sides.append(min(PATCH_SIDE, side))
        corner.append(min(first, side - sides[-1]))
    (top, left), (height, width) = corner, sides
    changed = image.clone()
    colour = torch.rand(len(image), 1, 1, generator=generator).to(image)
    changed[:, top : top + height, left : left + width] = colour
    return changed, [first + (side - 1) / 2 for first, side in zip(corner, sides, strict=True)]


def _centroids(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Centroids of Bxhxw maps of images of a (height, width) in px, Bx2; NaN where all is 0."""
    centroids = []
    # Networks with global context change a little everywhere.
    maps = (maps - maps.flatten(1).median(1).values[:, None, None]).clamp(min=0)
    for axis, side in enumerate(size):
        profile = maps.sum(2 - axis)
        step = side / profile.shape[1]
        places = step * torch.arange(profile.shape[1]) + (step - 1) / 2
        centroids.append((profile.cpu() * places).sum(1) / profile.cpu().sum(1))
    return torch.stack(centroids, 1)
