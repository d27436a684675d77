# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is not to be computed in reduced precision."""

from collections.abc import Callable
import functools
from typing import Any

import torch
from torch import Tensor


def autocast_disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of tensors compute in float32 within `torch.autocast`.

    For what the result rests on more than on the networks before: resizing of maps, the search for
    near points, poses, likelihoods. Their matrices are small.
    """

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        kinds = [x.device.type for x in args if isinstance(x, Tensor)]
        # Without the context where there is no need: it would show in exported graphs.
        if not torch.is_autocast_enabled(kinds[0]):
            return function(*args)
        with torch.autocast(kinds[0], enabled=False):
            return function(
                *(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in args)
            )

    return call
