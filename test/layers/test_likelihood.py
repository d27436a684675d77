# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How unlikely positions are, and above what."""

from flow_anomaly_ros.layers import likelihood
from flow_anomaly_ros.layers.likelihood import flow_nll, ScoreFloor
import pytest
import torch


def test_negative_log_density_by_hand():
    latents = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    density = flow_nll(latents, torch.full((1, 1, 1), 0.5))
    assert density.item() == pytest.approx((12.5 - 0.5) / 2)


def test_it_is_that_of_a_normal_distribution_after_a_scaling():
    scale = torch.tensor([2.0, 0.5, 3.0])
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    density = flow_nll(
        (x * scale[:, None]).reshape(1, 3, 5, 10), scale.log().sum().expand(1, 5, 10)
    )
    exact = -torch.distributions.Normal(0, 1 / scale[:, None]).log_prob(x).sum(0) / 3
    difference = density.flatten() - exact
    torch.testing.assert_close(difference, difference[:1].expand(50))


def test_scores_begin_where_one_in_a_hundred_good_positions_lies_below(monkeypatch):
    scores = torch.linspace(-5, 5, 1001)
    above = ScoreFloor()
    assert torch.equal(above(scores), scores.clamp(min=0))
    above.fit(scores.reshape(7, 11, 13))
    assert above.floor.item() == pytest.approx(-4.9)
    assert above(torch.tensor([-6.0, -3.9])).tolist() == pytest.approx([0, 1])
    # Of more scores than can be sorted every so many count.
    monkeypatch.setattr(likelihood, 'MAX_QUANTILE_VALUES', 100)
    above.fit(scores)
    assert above.floor.item() == pytest.approx(-4.9, abs=0.1)
