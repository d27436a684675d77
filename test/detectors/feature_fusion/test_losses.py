# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The losses of section 2 equal values computed by hand or pair by pair."""

import math

from flow_anomaly_ros.detectors.feature_fusion.losses import (
    consistency_loss,
    feature_loss,
    hypersphere_distance,
    score_loss,
)
import pytest
import torch

MASK = torch.tensor([[[False, False, True, False]]])


def test_the_hypersphere_distance_equals_equation_3():
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).T[None, :, None, :]
    torch.testing.assert_close(
        hypersphere_distance(features), torch.tensor([[[0.0, math.sqrt(26) - 1]]])
    )


def test_feature_loss_gives_good_and_abnormal_positions_equal_weight():
    distances = torch.tensor([[[0.1, 0.2, 0.7, 0.6]]])
    expected = 0.3 - math.log(1 - math.exp(-0.7))
    assert feature_loss(distances, MASK).item() == pytest.approx(expected, abs=1e-3)


def test_an_abnormal_position_at_the_centre_is_pushed_away():
    features = torch.full((1, 8, 1, 4), 1e-4, requires_grad=True)
    loss = feature_loss(hypersphere_distance(features), MASK)
    (gradient,) = torch.autograd.grad(loss, features)
    assert (gradient[..., 2] < -0.1).all()
    assert (gradient[..., 0] > 0).all()


def test_score_loss_equals_a_value_computed_by_hand():
    # The good score 3 is 0.5 above the margin. The gaps are 4, 3 and 1; 5 is required.
    scores = torch.tensor([[[0.0, 1.0, 4.0, 3.0]]])
    assert score_loss(scores, MASK, 2.5, 5.0).item() == pytest.approx(0.5 / 3 + (1 + 2 + 4) / 3)


def test_score_loss_and_its_gradient_equal_the_mean_over_all_pairs():
    generator = torch.Generator().manual_seed(0)
    scores = (4 * torch.randn(2, 5, 6, generator=generator)).requires_grad_()
    mask = torch.rand(2, 5, 6, generator=generator) < 0.3
    good, bad = scores[~mask], scores[mask]
    pairs = (5.0 + good[:, None] - bad[None]).clamp(min=0).mean()
    expected = (good - 2.5).clamp(min=0).mean() + pairs
    loss = score_loss(scores, mask, 2.5, 5.0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, scores)[0], torch.autograd.grad(expected, scores)[0]
    )


def test_consistency_loss_equals_a_value_computed_by_hand():
    # Two patches; distances of features 0 and 3, of scores 0 and 1.
    features = torch.tensor([[[[0.0, 3.0]]]])
    scores = torch.tensor([[[2.0, 1.0]]])
    mask = torch.zeros(1, 1, 2, dtype=torch.bool)
    p, q = (math.exp(d) / (1 + math.exp(d)) for d in (3.0, 1.0))
    expected = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
    loss = consistency_loss(features, scores, mask, patches=2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_scores_with_the_distances_of_the_features_are_consistent():
    features = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    same = consistency_loss(features, features[:, 0] + 7, mask, patches=4)
    other = consistency_loss(features, features[:, 0].flip(2), mask, patches=4)
    assert same.item() == pytest.approx(0, abs=1e-6)
    assert other > 0.01


def test_patches_with_abnormal_positions_are_left_out():
    features = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scores = torch.zeros(1, 4, 4, requires_grad=True)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 0] = True
    (gradient,) = torch.autograd.grad(
        consistency_loss(features, (scores + features[:, 0]), mask, patches=2), scores
    )
    assert gradient.isfinite().all()
    assert gradient[0, :2, :2].eq(0).all()
    assert gradient[0, 2:, 2:].ne(0).any()


@pytest.mark.parametrize('value', [False, True])
def test_losses_are_finite_without_good_or_without_abnormal_positions(value):
    mask = torch.full((2, 4, 4), value)
    features = torch.zeros(2, 3, 4, 4, requires_grad=True)
    distances, scores = hypersphere_distance(features), features.sum(1)
    losses = [
        feature_loss(distances, mask),
        score_loss(scores, mask, 2.5, 5.0),
        consistency_loss(features, scores, mask, 4),
    ]
    (gradient,) = torch.autograd.grad(sum(losses), features)
    assert all(loss.isfinite() for loss in losses)
    assert gradient.isfinite().all()
