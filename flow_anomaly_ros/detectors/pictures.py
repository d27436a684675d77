# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Shows maps as pictures, for the explanations of several methods."""

import torch
from torch import Tensor


def normalize_to_max(maps: Tensor) -> Tensor:
    """Scale each of Bx1xhxw maps, 0 or more, to [0, 1] by its own maximum."""
    most = maps.amax((1, 2, 3), keepdim=True)
    return maps / most.clamp(min=torch.finfo(maps.dtype).tiny)
