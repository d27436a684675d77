# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Some of many."""

import torch
from torch import Tensor


def evenly(count: int, most: int) -> Tensor:
    """Indices of at most `most` of `count` things, in order and as far apart as they can be."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).round().long()
