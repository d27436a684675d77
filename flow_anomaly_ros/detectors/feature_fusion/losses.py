# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The three losses of section 2: feature loss, score loss and consistency loss."""

import torch
from torch import Tensor
from torch.nn import functional

# Added to the distances of abnormal positions, since the logarithm is infinite at 0. Clamping would
# remove the gradient that pushes them away.
MIN_DISTANCE = 1e-4


def hypersphere_distance(features: Tensor) -> Tensor:
    """Distance of BxCxHxW features from the centre of the hypersphere, BxHxW, >= 0.

    A(x) = sqrt(||x||^2 + 1) - 1, of equation 3; the centre is the origin.
    """
    return (features.square().sum(1) + 1).sqrt() - 1


def feature_loss(distances: Tensor, mask: Tensor) -> Tensor:
    """Pull good positions to the centre and push abnormal ones away: equation 4.

    Normal and abnormal positions are averaged separately; either may be missing.

    Args:
        distances: BxHxW distances from the centre.
        mask: BxHxW bool, True where abnormal.
    """
    good, bad = distances[~mask], distances[mask] + MIN_DISTANCE
    return _mean(good) - _mean(torch.log(-torch.expm1(-bad)))


def score_loss(scores: Tensor, mask: Tensor, margin: float, gap: float) -> Tensor:
    """Keep good scores low and abnormal scores above them: equation 5.

    Args:
        scores: BxHxW.
        mask: BxHxW bool, True where abnormal.
        margin: Good scores above this are penalised; gamma.
        gap: Minimum difference between each abnormal and each good score; lambda.
    """
    good, bad = scores[~mask], scores[mask]
    loss = _mean((good - margin).clamp(min=0))
    if not (len(good) and len(bad)):
        return loss
    # Mean over all pairs of max(0, gap + good - bad), without forming the pairs: only the sorted
    # abnormal scores below good + gap contribute.
    bad = bad.sort().values
    limits = good + gap
    below = torch.searchsorted(bad.detach(), limits.detach())
    sums = functional.pad(bad.cumsum(0), (1, 0))
    return loss + (below * limits - sums[below]).mean() / len(bad)


def consistency_loss(features: Tensor, scores: Tensor, mask: Tensor, patches: int) -> Tensor:
    """Make distances between scores consistent with those between features: equations 6 and 7.

    Positions are averaged over patches. Patches with abnormal positions are left out.

    Args:
        features: BxCxHxW.
        scores: BxHxW.
        mask: BxHxW bool, True where abnormal.
        patches: Number of patches along each side, at most the number of positions.

    Returns:
        KL(softmax(Q_i) || softmax(P_i)), averaged over patches i and images. P and Q are the
        Euclidean distances between features and between scores.
    """
    grid = min(patches, mask.shape[1]), min(patches, mask.shape[2])
    patch_features, patch_scores, patch_masks = (
        functional.adaptive_avg_pool2d(x, grid).flatten(2).mT
        for x in (features, scores[:, None], mask[:, None].to(scores))
    )
    losses = []
    for image_features, image_scores, image_mask in zip(
        patch_features, patch_scores, patch_masks, strict=True
    ):
        kept = image_mask[:, 0] == 0
        if kept.any():
            p, q = (_distances(x[kept]).log_softmax(1) for x in (image_features, image_scores))
            losses.append(functional.kl_div(p, q, reduction='batchmean', log_target=True))
    return torch.stack(losses).mean() if losses else features.new_zeros(())


def _distances(points: Tensor) -> Tensor:
    """Pairwise Euclidean distances of KxC points, KxK."""
    squares = (points[:, None] - points[None]).square().sum(2)
    # The gradient of the square root is infinite at 0, as on the diagonal.
    zero = squares == 0
    return squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def _mean(values: Tensor) -> Tensor:
    return values.mean() if len(values) else values.sum()
