# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Velocities are trained and integrated; a reflow straightens their paths."""

from flow_anomaly_ros.detectors.timenet.rectified_flow import (
    curvature,
    euler,
    interpolate,
    rk45,
    velocity_loss,
)
import pytest
import torch
from torch import nn

MEAN, DEVIATION = 2.0, 0.5


def exact_velocity(maps, times):
    """E[X1 - X0 | X_t] of two normal distributions, N(0, 1) and N(MEAN, DEVIATION^2)."""
    t = times[:, None, None, None]
    variance = (t * DEVIATION) ** 2 + (1 - t) ** 2
    slope = (t * DEVIATION**2 - (1 - t)) / variance
    return MEAN + slope * (maps - t * MEAN)


def test_paths_are_straight_lines():
    noise, images = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    points = interpolate(noise, images, torch.tensor([0.25, 1.0]))
    assert points.flatten(1).tolist() == [[0.25] * 4, [1.0] * 4]


def test_the_exact_velocity_of_a_linear_case_has_the_smallest_loss():
    torch.manual_seed(0)
    noise = torch.randn(20000, 1, 1, 1)
    images = MEAN + DEVIATION * torch.randn_like(noise)
    times = torch.rand(len(noise))
    minimum = velocity_loss(exact_velocity, noise, images, times)
    for changed in (
        lambda x, t: exact_velocity(x, t) + 0.1,
        lambda x, t: 1.1 * exact_velocity(x, t),
        lambda x, t: exact_velocity(x, (t + 0.1).clamp(max=1)),
    ):
        assert velocity_loss(changed, noise, images, times) > minimum


def test_the_adaptive_solver_maps_quantiles_to_quantiles():
    start = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    # As the exact flow between two normal distributions does.
    torch.testing.assert_close(
        rk45(exact_velocity, start), MEAN + DEVIATION * start, atol=1e-3, rtol=0
    )


def test_the_error_of_euler_decreases_with_the_number_of_steps():
    start = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    exact = MEAN + DEVIATION * start
    errors = [(euler(exact_velocity, start, steps=n) - exact).abs().max() for n in (1, 10, 100)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_one_euler_step_starts_at_the_given_time():
    start, time = torch.full((1, 1, 1, 1), 3.0), 0.75
    result = euler(lambda x, t: 10 * t[:, None, None, None] + x, start, time)
    assert result.item() == pytest.approx(3 + 0.25 * (7.5 + 3))


def test_a_velocity_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match='at time 0 is not finite'):
        rk45(lambda x, _: x * float('nan'), torch.ones(1, 1, 2, 2))


class Points(nn.Module):
    """Velocity field of points in a plane, in place of images."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.last = nn.Linear(64, 2)

    def forward(self, maps, times):
        points = maps.flatten(1)
        inputs = torch.cat([points, times[:, None]], 1)
        return self.last(self.layers(inputs)).view(maps.shape)


def train(velocity, pairs, steps=300):
    optimiser = torch.optim.Adam(velocity.parameters(), 3e-3)
    for _ in range(steps):
        noise, images = pairs()
        loss = velocity_loss(velocity, noise, images, torch.rand(len(noise)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_a_reflow_straightens_the_paths():
    torch.manual_seed(0)

    def independent():
        noise = torch.randn(256, 2, 1, 1)
        sides = 4 * torch.randint(0, 2, (256, 1, 1, 1)) - 2.0
        return noise, sides + 0.3 * torch.randn(256, 2, 1, 1)

    velocity, start = Points(), torch.randn(256, 2, 1, 1)
    train(velocity, independent)
    before = curvature(velocity, start)
    noise = torch.randn(2048, 2, 1, 1)
    images = rk45(velocity, noise)

    def coupled():
        selected = torch.randint(0, len(noise), (256,))
        return noise[selected], images[selected]

    train(velocity, coupled)
    assert curvature(velocity, start) < 0.3 * before


def test_straight_paths_have_no_curvature():
    assert curvature(lambda x, _: torch.ones_like(x), torch.zeros(2, 1, 2, 2)) < 1e-10
