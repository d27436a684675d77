# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Maps as pictures, for the explanations of several methods."""

import torch
from torch import Tensor


def normalize_to_max(maps: Tensor) -> Tensor:
    """Show Bx1xhxw maps, 0 or more, in [0, 1]: each is 1 where it is largest."""
    most = maps.amax((1, 2, 3), keepdim=True)
    return maps / most.clamp(min=torch.finfo(maps.dtype).tiny)
