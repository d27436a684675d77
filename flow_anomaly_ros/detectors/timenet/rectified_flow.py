# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Rectified flow: straight paths from noise to images, their velocity, and ODE solvers.

Source: TimeNet, section 2.1, equations 1 to 4 and algorithm 1; Liu et al., "Flow straight and fast:
learning to generate and transfer data with rectified flow", ICLR 2023.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# Velocity field: BxCxHxW images and B times in [0, 1] to BxCxHxW velocities.
Velocity = Callable[[Tensor, Tensor], Tensor]


def interpolate(noise: Tensor, images: Tensor, times: Tensor) -> Tensor:
    """Interpolate linearly between noise and images.

    Args:
        noise: BxCxHxW, the points at time 0.
        images: BxCxHxW, the points at time 1.
        times: B, in [0, 1].

    Returns:
        X_t = t X_1 + (1 - t) X_0, BxCxHxW.
    """
    weights = times[:, None, None, None]
    return weights * images + (1 - weights) * noise


def velocity_loss(velocity: Velocity, noise: Tensor, images: Tensor, times: Tensor) -> Tensor:
    """Mean squared error of the velocity on the straight paths: equations 1 and 4.

    Args:
        velocity: The velocity field to train.
        noise: BxCxHxW.
        images: BxCxHxW.
        times: B, uniform in [0, 1].
    """
    predicted = velocity(interpolate(noise, images, times), times)
    return torch.nn.functional.mse_loss(predicted, images - noise)


def euler(velocity: Velocity, start: Tensor, time: float = 0.0, steps: int = 1) -> Tensor:
    """Integrate the velocity to time 1 by Euler's method; a single step is equation 3.

    Args:
        velocity: The velocity field.
        start: BxCxHxW images at `time`.
        time: Initial time, in [0, 1).
        steps: Number of equal steps.

    Returns:
        BxCxHxW images at time 1.
    """
    maps, length = start, (1 - time) / steps
    for step in range(steps):
        times = start.new_full(start.shape[:1], time + step * length)
        maps = maps + length * velocity(maps, times)
    return maps


@torch.no_grad()
def rk45(velocity: Velocity, start: Tensor, time: float = 0.0, tolerance: float = 1e-5) -> Tensor:
    """Integrate the velocity to time 1 by the adaptive Runge-Kutta method RK45.

    Args:
        velocity: The velocity field.
        start: BxCxHxW images at `time`.
        time: Initial time, in [0, 1).
        tolerance: Absolute and relative error tolerance of a step; the default is that of the
            published code of Liu et al.

    Returns:
        BxCxHxW images at time 1.

    Raises:
        ValueError: The velocity is not finite, or the step size became too small; one line.
    """
    # Imported here because it takes half a second and only a reflow needs it.
    from scipy.integrate import solve_ivp

    def derivative(current: float, flat: np.ndarray) -> np.ndarray:
        maps = torch.from_numpy(flat).to(start).view(start.shape)
        velocities = velocity(maps, start.new_full(start.shape[:1], current))
        # The solver would reduce its step size forever.
        if not velocities.isfinite().all():
            msg = f'the velocity at time {current:.3g} is not finite: lower learning_rate'
            raise ValueError(msg)
        return velocities.double().cpu().numpy().ravel()

    solution = solve_ivp(
        derivative,
        (time, 1.0),
        start.double().cpu().numpy().ravel(),
        method='RK45',
        rtol=tolerance,
        atol=tolerance,
    )
    if not solution.success:
        msg = f'the path from noise to images cannot be integrated: {solution.message}'
        raise ValueError(msg)
    return torch.from_numpy(solution.y[:, -1]).to(start).view(start.shape)


@torch.no_grad()
def curvature(velocity: Velocity, start: Tensor, steps: int = 20) -> float:
    """Measure how far the paths of a velocity field deviate from straight lines.

    The straightness of Liu et al.: the mean of |(Z_1 - Z_0) - v(Z_t, t)|^2 along the path, relative
    to the mean square of Z_1 - Z_0.

    Args:
        velocity: The velocity field.
        start: BxCxHxW noise, at time 0.
        steps: Number of equal steps of the integration.

    Returns:
        A value >= 0; at 0 a single Euler step is exact.
    """
    maps, velocities = start, []
    for step in range(steps):
        velocities.append(velocity(maps, start.new_full(start.shape[:1], step / steps)))
        maps = maps + velocities[-1] / steps
    straight = maps - start
    deviation = torch.stack([(straight - v).square().mean() for v in velocities]).mean()
    return (deviation / straight.square().mean()).item()
