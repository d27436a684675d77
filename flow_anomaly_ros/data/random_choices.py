# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Random numbers of a range, drawn from a generator on the CPU."""

import math

import torch


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number between both."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def log_uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number between both, of which each order of magnitude is as likely as another."""
    return math.exp(uniform(math.log(low), math.log(high), generator))


def integer(low: int, high: int, generator: torch.Generator) -> int:
    """Draw a whole number, `high` included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
