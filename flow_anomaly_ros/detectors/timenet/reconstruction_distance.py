# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Distance between images and their reconstructions, in pixels and in features of a network.

Source: TimeNet, section 2.3, equation 5, and section 3.1.3.
"""

from collections.abc import Sequence

from flow_anomaly_ros.layers.resample import resize_and_smooth, size_of, smooth
import torch
from torch import nn, Tensor
from torch.nn import functional

# Side in px of the window of average pooling.
POOLING_WINDOW = 3


class ReconstructionDistance(nn.Module):
    """Score map from images, restored images, and the features of both.

    Two distances are combined as F(d1, d2, w) = w max(d2) / max(d1) d1 + d2. The maxima are taken
    over good parts; with the maxima of each image, good and defective parts would score alike.

    Args:
        level_weights: For each level of the network, the weight w of Euclidean distances against
            cosine distances.
        pixel_weight: Weight w of pixel distances against feature distances.
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
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
        offsets: Sequence[tuple[float, float]],
    ) -> Tensor:
        """Compute score maps.

        Args:
            images: BxCxHxW.
            restored: BxCxHxW.
            levels: Features of the images, one BxCixhixwi map per level.
            restored_levels: Features of the restored images.
            offsets: Of the levels, see `Backbone.level_offsets`.

        Returns:
            Bx1xHxW, >= 0.
        """
        size = size_of(images)
        pixel_distance = _pixel_distance(images, restored)
        total = smooth(self.pixel_weight * self.pixel_scale * pixel_distance, self.smoothing)
        for level, restored_level, weight, scale, offset in zip(
            levels, restored_levels, self.level_weights, self.level_scales, offsets, strict=True
        ):
            euclidean, cosine = _level_distances(level, restored_level)
            distance = weight * scale * euclidean + cosine
            total = total + resize_and_smooth(distance, size, self.smoothing, offset=offset)
        return total

    @staticmethod
    def maxima(
        images: Tensor,
        restored: Tensor,
        levels: Sequence[Tensor],
        restored_levels: Sequence[Tensor],
    ) -> Tensor:
        """Maxima of the distances over each image.

        Args:
            images: See `forward`.
            restored: See `forward`.
            levels: See `forward`.
            restored_levels: See `forward`.

        Returns:
            Bx(2 levels + 1): Euclidean and cosine distance of each level, then the pixel distance.
        """
        level_distances = [
            distance
            for level, restored_level in zip(levels, restored_levels, strict=True)
            for distance in _level_distances(level, restored_level)
        ]
        distances = [*level_distances, _pixel_distance(images, restored)]
        return torch.stack([x.amax((1, 2, 3)) for x in distances], 1)

    @torch.no_grad()
    def fit(self, maxima: Tensor) -> None:
        """Set the scales of the distances by those of good parts.

        Args:
            maxima: Maxima of N images of good parts, Nx(2 levels + 1).
        """
        largest = maxima.amax(0).clamp(min=torch.finfo(maxima.dtype).eps)
        euclidean, cosine, pixels = largest[:-1:2], largest[1::2], largest[-1]
        self.level_scales.copy_(cosine / euclidean)
        # The maximum of the sum over levels is approximated by the sum of the maxima.
        level_maxima = [
            (1 + weight) * maximum
            for weight, maximum in zip(self.level_weights, cosine, strict=True)
        ]
        self.pixel_scale.copy_(sum(level_maxima) / pixels)


def _pixel_distance(images: Tensor, restored: Tensor) -> Tensor:
    return (images - restored).square().sum(1, keepdim=True)


def _level_distances(level: Tensor, restored_level: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean and cosine distance, Bx1xhxw each, >= 0."""
    euclidean = torch.linalg.vector_norm(level - restored_level, dim=1, keepdim=True)
    cosine = 1 - functional.cosine_similarity(level, restored_level, dim=1)[:, None]
    return euclidean, cosine.clamp(min=0)


def perceptual_loss(levels: Sequence[Tensor], target_levels: Sequence[Tensor]) -> Tensor:
    """Perceptual distance of two images, averaged over positions and levels.

    Source: LPIPS (Zhang et al., "The unreasonable effectiveness of deep features as a perceptual
    metric", CVPR 2018), without the channel weights, which are fitted to human judgements.

    Args:
        levels: Features of the first image, one BxCixhixwi map per level.
        target_levels: Features of the second image.
    """
    return torch.stack(
        [
            (functional.normalize(level) - functional.normalize(target)).square().sum(1).mean()
            for level, target in zip(levels, target_levels, strict=True)
        ]
    ).mean()


def pooled_maximum(score_map: Tensor, rounds: int) -> Tensor:
    """Image scores: the maximum of each score map after average pooling.

    Args:
        score_map: Bx1xHxW.
        rounds: Number of average poolings, with stride 1.

    Returns:
        B image scores.
    """
    for _ in range(rounds):
        score_map = functional.avg_pool2d(
            score_map, POOLING_WINDOW, 1, POOLING_WINDOW // 2, count_include_pad=False
        )
    return score_map.amax((1, 2, 3))
