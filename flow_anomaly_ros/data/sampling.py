# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Some of many."""

import numpy as np


def evenly_spaced_indices(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` things, in order and as far apart as they can be."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
