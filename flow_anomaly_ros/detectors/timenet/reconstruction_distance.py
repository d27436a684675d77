# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How an image differs from its restored one, in its pixels and in what a network sees.

Source: TimeNet, section 2.3, equation 5, and section 3.1.3.
"""

from collections.abc import Sequence

from flow_anomaly_ros.layers.resample import resize, size_of, smooth
import torch
from torch import nn, Tensor
from torch.nn import functional

# Positions in both directions that a round of pooling averages over.
POOLING_WINDOW = 3


class ReconstructionDistance(nn.Module):
    """Score maps from images, restored ones, and what a network sees in both.

    Two distances are added as F(d1, d2, w) = w max(d2) / max(d1) d1 + d2. The maxima are those of
    good parts: with the maxima of each image a good part would score as high as a bad one.

    Args:
        level_weights: For each level of the network, how much Euclidean distances count beside
            cosine distances.
        pixel_weight: How much pixels count beside levels.
        smoothing: Standard deviation of the Gaussian that smooths last, in px.
    """

    level_scales: Tensor
    pixel_scale: Tensor

    def __init__(
        self, level_weights: Sequence[float], pixel_weight: float, smoothing: float
    ) -> None:
        super().__init__()
        self.level_weights = tuple(level_weights)
        self.pixel_weight = pixel_weight
        self.smoothing = smoothing
        self.register_buffer('level_scales', torch.ones(len(level_weights)))
        self.register_buffer('pixel_scale', torch.ones(()))

    def forward(
        self,
        images: Tensor,
        restored: Tensor,
        levels: Sequence[Tensor],
        restored_levels: Sequence[Tensor],
    ) -> Tensor:
        """Compare.

        Args:
            images: BxCxHxW.
            restored: BxCxHxW.
            levels: What the network sees in the images, BxCixhixwi.
            restored_levels: What it sees in the restored ones.

        Returns:
            Bx1xHxW.
        """
        size = size_of(images)
        total = self.pixel_weight * self.pixel_scale * _of_pixels(images, restored)
        for one, other, weight, scale in zip(
            levels, restored_levels, self.level_weights, self.level_scales, strict=True
        ):
            euclidean, cosine = _of_level(one, other)
            total = total + resize(weight * scale * euclidean + cosine, size)
        return smooth(total, self.smoothing)

    @staticmethod
    def maxima(
        images: Tensor,
        restored: Tensor,
        levels: Sequence[Tensor],
        restored_levels: Sequence[Tensor],
    ) -> Tensor:
        """Maxima of the distances in each image, Bx(2 levels + 1): of levels in pairs, of pixels.

        Args:
            images: As in `forward`.
            restored: Likewise.
            levels: Likewise.
            restored_levels: Likewise.
        """
        of_levels = [
            distance
            for one, other in zip(levels, restored_levels, strict=True)
            for distance in _of_level(one, other)
        ]
        distances = [*of_levels, _of_pixels(images, restored)]
        return torch.stack([x.amax((1, 2, 3)) for x in distances], 1)

    @torch.no_grad()
    def fit(self, maxima: Tensor) -> None:
        """Learn how large distances of good parts are.

        Args:
            maxima: Of N images of good parts, Nx(2 levels + 1).
        """
        largest = maxima.amax(0).clamp(min=torch.finfo(maxima.dtype).eps)
        euclidean, cosine, pixels = largest[:-1:2], largest[1::2], largest[-1]
        self.level_scales.copy_(cosine / euclidean)
        # The sum over levels reaches what its terms do.
        reached = [
            (1 + weight) * most for weight, most in zip(self.level_weights, cosine, strict=True)
        ]
        self.pixel_scale.copy_(sum(reached) / pixels)


def _of_pixels(images: Tensor, restored: Tensor) -> Tensor:
    return (images - restored).square().sum(1, keepdim=True)


def _of_level(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean and cosine distance, Bx1xhxw, not negative."""
    euclidean = torch.linalg.vector_norm(one - other, dim=1, keepdim=True)
    cosine = 1 - functional.cosine_similarity(one, other, dim=1)[:, None]
    return euclidean, cosine.clamp(min=0)


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
            score_map, POOLING_WINDOW, 1, POOLING_WINDOW // 2, count_include_pad=False
        )
    return score_map.amax((1, 2, 3))
