# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The three losses of section 2: features, scores, and that both agree."""

import torch
from torch import Tensor
from torch.nn import functional

# Added to the distances of abnormal positions: at 0 the logarithm would not be finite, and clamped
# they would not be pushed away any more.
MIN_DISTANCE = 1e-4


def hypersphere_distance(features: Tensor) -> Tensor:
    """Distance of BxCxHxW features from the centre of the hypersphere, BxHxW, 0 or more.

    A(x) = sqrt(||x||^2 + 1) - 1, of equation 3; the centre is the origin.
    """
    return (features.square().sum(1) + 1).sqrt() - 1


def feature_loss(distances: Tensor, mask: Tensor) -> Tensor:
    """Pull good positions to the centre, push abnormal ones away: equation 4.

    Args:
        distances: BxHxW distances from the centre.
        mask: BxHxW bool, true where abnormal. Each of the two kinds counts as its mean; one
            that is missing does not count.
    """
    good, bad = distances[~mask], distances[mask] + MIN_DISTANCE
    return _mean(good) - _mean(torch.log(-torch.expm1(-bad)))


def score_loss(scores: Tensor, mask: Tensor, margin: float, gap: float) -> Tensor:
    """Keep scores of good positions low and those of abnormal ones above them: equation 5.

    Args:
        scores: BxHxW.
        mask: BxHxW bool, true where abnormal.
        margin: Good scores are to lie below it, gamma.
        gap: Every abnormal score is to lie so far above every good one, lambda.
    """
    good, bad = scores[~mask], scores[mask]
    loss = _mean((good - margin).clamp(min=0))
    if not (len(good) and len(bad)):
        return loss
    # The mean over all pairs of max(0, gap + good - bad), without making the pairs: of the sorted
    # abnormal scores those below good + gap count.
    bad = bad.sort().values
    limits = good + gap
    below = torch.searchsorted(bad.detach(), limits.detach())
    sums = functional.pad(bad.cumsum(0), (1, 0))
    return loss + (below * limits - sums[below]).mean() / len(bad)


def consistency_loss(features: Tensor, scores: Tensor, mask: Tensor, patches: int) -> Tensor:
    """Hold the likeness of features and that of scores against each other: equations 6 and 7.

    Positions are averaged over patches; only patches without abnormal positions are compared.

    Args:
        features: BxCxHxW.
        scores: BxHxW.
        mask: BxHxW bool, true where abnormal.
        patches: Patches along each side, at most as many as positions.

    Returns:
        The mean over images of KL(softmax(Q_i) || softmax(P_i)) averaged over the patches i, P and
        Q being the Euclidean distances between features and between scores.
    """
    grid = min(patches, mask.shape[1]), min(patches, mask.shape[2])
    packed, packed_scores, abnormal = (
        functional.adaptive_avg_pool2d(x, grid).flatten(2).mT
        for x in (features, scores[:, None], mask[:, None].to(scores))
    )
    losses = []
    for image_features, image_scores, bad in zip(packed, packed_scores, abnormal, strict=True):
        kept = bad[:, 0] == 0
        if kept.any():
            p, q = (_distances(x[kept]).log_softmax(1) for x in (image_features, image_scores))
            losses.append(functional.kl_div(p, q, reduction='batchmean', log_target=True))
    return torch.stack(losses).mean() if losses else features.new_zeros(())


def _distances(points: Tensor) -> Tensor:
    """Euclidean distances of KxC points from one another, KxK."""
    squares = (points[:, None] - points[None]).square().sum(2)
    # The square root has no gradient at 0, which is on the diagonal.
    zero = squares == 0
    return squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def _mean(values: Tensor) -> Tensor:
    return values.mean() if len(values) else values.sum()
