# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How an image differs from its restored one, in its pixels and in what a network sees.

Source: TimeNet, section 2.3, equation 5, and section 3.1.3.
"""

from collections.abc import Sequence

from flow_anomaly_ros.layers.resample import resize, size_of, smooth
import torch
from torch import Tensor
from torch.nn import functional

# Positions in both directions that a round of pooling averages over.
POOLED = 3


def balanced(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Add two distances so that the first counts `weight` times as much as the second.

    F(d1, d2, w) = w max(d2) / max(d1) d1 + d2, with the maxima of each image.

    Args:
        first: Bx1xHxW, not negative.
        second: Likewise.
        weight: w.
    """
    most, wanted = (x.amax((1, 2, 3), keepdim=True) for x in (first, second))
    return weight * wanted / most.clamp(min=torch.finfo(most.dtype).tiny) * first + second


def difference(
    images: Tensor,
    restored: Tensor,
    levels: Sequence[tuple[Tensor, Tensor]],
    level_weights: Sequence[float],
    pixel_weight: float,
    smoothing: float,
) -> Tensor:
    """Score maps from images, restored images, and what a network sees in both.

    Args:
        images: BxCxHxW.
        restored: BxCxHxW.
        levels: Pairs of maps of both, BxCixhixwi.
        level_weights: For each level, how much Euclidean distances count beside cosine distances.
        pixel_weight: How much pixels count beside levels.
        smoothing: Standard deviation of the Gaussian that smooths last, in px.

    Returns:
        Bx1xHxW.
    """
    size = size_of(images)
    of_levels = torch.zeros_like(images[:, :1])
    for (one, other), weight in zip(levels, level_weights, strict=True):
        euclidean = torch.linalg.vector_norm(one - other, dim=1, keepdim=True)
        cosine = 1 - functional.cosine_similarity(one, other, dim=1)[:, None]
        of_levels = of_levels + resize(balanced(euclidean, cosine.clamp(min=0), weight), size)
    of_pixels = (images - restored).square().sum(1, keepdim=True)
    return smooth(balanced(of_pixels, of_levels, pixel_weight), smoothing)


def perceptual_loss(levels: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """How differently a network sees two images, averaged over positions and levels.

    Source: LPIPS (Zhang et al., "The unreasonable effectiveness of deep features as a perceptual
    metric", CVPR 2018) without weights of channels, which are learned from people's judgement.

    Args:
        levels: What it sees in one image, BxCixhixwi.
        wanted: What it sees in the other.
    """
    return torch.stack(
        [
            (functional.normalize(one) - functional.normalize(other)).square().sum(1).mean()
            for one, other in zip(levels, wanted, strict=True)
        ]
    ).mean()


def pooled_maximum(score_map: Tensor, rounds: int) -> Tensor:
    """Image scores of Bx1xHxW score maps: the maximum after some rounds of average pooling, B."""
    for _ in range(rounds):
        score_map = functional.avg_pool2d(
            score_map, POOLED, 1, POOLED // 2, count_include_pad=False
        )
    return score_map.amax((1, 2, 3))
