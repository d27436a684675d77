# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Random numbers from a range, drawn with a `torch.Generator` on the CPU."""

import math

import torch


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number uniformly from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def log_uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number from [low, high) whose logarithm is uniform; `low` must be > 0."""
    return math.exp(uniform(math.log(low), math.log(high), generator))


def uniform_integer(low: int, high: int, generator: torch.Generator) -> int:
    """Draw an integer uniformly from [low, high]."""
    return int(torch.randint(low, high + 1, (), generator=generator))
