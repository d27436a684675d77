# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Selection of a subset of images."""

import numpy as np


def evenly_spaced_indices(length: int, max_count: int) -> list[int]:
    """Return evenly spaced indices into a sequence, in ascending order.

    Args:
        length: Length of the sequence.
        max_count: Maximum number of indices; all indices if the sequence is not longer.
    """
    return np.linspace(0, length - 1, min(length, max_count)).round().astype(int).tolist()
