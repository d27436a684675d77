# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The likelihood of a position, and the floor that scores begin at."""

from flow_anomaly_ros.layers import likelihood
from flow_anomaly_ros.layers.likelihood import flow_nll, ScoreFloor
import pytest
import torch


def test_flow_nll_equals_a_value_computed_by_hand():
    latents = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    nll = flow_nll(latents, torch.full((1, 1, 1), 0.5))
    assert nll.item() == pytest.approx((12.5 - 0.5) / 2)


def test_flow_nll_of_a_scaling_flow_is_that_of_a_scaled_normal_distribution():
    scale = torch.tensor([2.0, 0.5, 3.0])
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    nll = flow_nll((x * scale[:, None]).reshape(1, 3, 5, 10), scale.log().sum().expand(1, 5, 10))
    exact = -torch.distributions.Normal(0, 1 / scale[:, None]).log_prob(x).sum(0) / 3
    difference = nll.flatten() - exact
    torch.testing.assert_close(difference, difference[:1].expand(50))


def test_the_floor_is_the_one_percent_quantile_of_good_scores(monkeypatch):
    scores = torch.linspace(-5, 5, 1001)
    floor = ScoreFloor()
    assert torch.equal(floor(scores), scores.clamp(min=0))
    floor.fit(scores.reshape(7, 11, 13))
    assert floor.floor.item() == pytest.approx(-4.9)
    assert floor(torch.tensor([-6.0, -3.9])).tolist() == pytest.approx([0, 1])
    # Of more scores than torch.quantile accepts, every n-th is used.
    monkeypatch.setattr(likelihood, 'MAX_QUANTILE_VALUES', 100)
    floor.fit(scores)
    assert floor.floor.item() == pytest.approx(-4.9, abs=0.1)
