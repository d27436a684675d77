# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Functions that compute in float32 within `torch.autocast`."""

from collections.abc import Callable
import functools
from typing import Any

import torch
from torch import Tensor


def autocast_disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function so that it computes in float32 within `torch.autocast`.

    For steps that amplify rounding errors more than networks do: resizing of maps, search for
    nearest neighbours, registration, likelihoods. Their matrices are small.

    Args:
        function: Takes positional arguments, at least one of them a tensor. Floating-point tensors
            are converted to float32.
    """

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        device_types = [x.device.type for x in args if isinstance(x, Tensor)]
        # Entering the context needlessly would leave a trace in exported graphs.
        if not torch.is_autocast_enabled(device_types[0]):
            return function(*args)
        with torch.autocast(device_types[0], enabled=False):
            return function(
                *(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in args)
            )

    return call
