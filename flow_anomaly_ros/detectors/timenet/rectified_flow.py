# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Rectified flow: straight ways from noise to images, and how they are followed.

Source: TimeNet, section 2.1, equations 1 to 4 and algorithm 1; Liu et al., "Flow straight and fast:
learning to generate and transfer data with rectified flow", ICLR 2023.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# Velocity of images BxCxHxW at times B: the same shape as the images.
Velocity = Callable[[Tensor, Tensor], Tensor]


def between(noise: Tensor, images: Tensor, times: Tensor) -> Tensor:
    """Points on the straight ways from noise to images.

    Args:
        noise: BxCxHxW, where time is 0.
        images: BxCxHxW, where time is 1.
        times: B, in [0, 1].

    Returns:
        X_t = t X_1 + (1 - t) X_0, BxCxHxW.
    """
    share = times[:, None, None, None]
    return share * images + (1 - share) * noise


def velocity_loss(velocity: Velocity, noise: Tensor, images: Tensor, times: Tensor) -> Tensor:
    """Mean square error of the velocity on the straight ways: equations 1 and 4.

    Args:
        velocity: Of images at times.
        noise: BxCxHxW.
        images: BxCxHxW.
        times: B, uniform in [0, 1].
    """
    found = velocity(between(noise, images, times), times)
    return torch.nn.functional.mse_loss(found, images - noise)


def euler(velocity: Velocity, start: Tensor, time: float = 0.0, steps: int = 1) -> Tensor:
    """Follow the velocity to time 1 in equal steps; with a single one this is equation 3.

    Args:
        velocity: Of images at times.
        start: BxCxHxW at the time.
        time: Where to start, in [0, 1).
        steps: How many steps.
    """
    maps, length = start, (1 - time) / steps
    for step in range(steps):
        times = start.new_full(start.shape[:1], time + step * length)
        maps = maps + length * velocity(maps, times)
    return maps


@torch.no_grad()
def rk45(velocity: Velocity, start: Tensor, time: float = 0.0, tolerance: float = 1e-5) -> Tensor:
    """Follow the velocity to time 1 in steps of a length that the error decides (RK45).

    Args:
        velocity: Of images at times.
        start: BxCxHxW at the time.
        time: Where to start, in [0, 1).
        tolerance: What a step may err by, absolutely and relatively; the default is that of the
            source's own program.

    Raises:
        ValueError: The velocity is not finite, or the steps would become too small; one line.
    """
    # Half a second of import, which only a reflow is to pay for.
    from scipy.integrate import solve_ivp

    def derivative(now: float, flat: np.ndarray) -> np.ndarray:
        maps = torch.from_numpy(flat).to(start).view(start.shape)
        found = velocity(maps, start.new_full(start.shape[:1], now))
        # The solver would look for a step that is small enough for ever.
        if not found.isfinite().all():
            msg = f'the velocity at time {now:.3g} is not finite: lower learning_rate'
            raise ValueError(msg)
        return found.double().cpu().numpy().ravel()

    found = solve_ivp(
        derivative,
        (time, 1.0),
        start.double().cpu().numpy().ravel(),
        method='RK45',
        rtol=tolerance,
        atol=tolerance,
    )
    if not found.success:
        msg = f'the way from noise to images cannot be followed: {found.message}'
        raise ValueError(msg)
    return torch.from_numpy(found.y[:, -1]).to(start).view(start.shape)


@torch.no_grad()
def curvature(velocity: Velocity, start: Tensor, steps: int = 20) -> float:
    """How far the velocity's ways are from straight ones, 0 where a single step is exact.

    This is the measure of Liu et al., the mean of |(Z_1 - Z_0) - v(Z_t, t)|^2 over the way, per
    component, in units of the mean square of Z_1 - Z_0.

    Args:
        velocity: Of images at times.
        start: BxCxHxW noise, at time 0.
        steps: Equal steps that the way is followed in.
    """
    maps, velocities = start, []
    for step in range(steps):
        velocities.append(velocity(maps, start.new_full(start.shape[:1], step / steps)))
        maps = maps + velocities[-1] / steps
    straight = maps - start
    deviation = torch.stack([(straight - one).square().mean() for one in velocities]).mean()
    return (deviation / straight.square().mean()).item()
