# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Modules whose buffers get their size from the images of the training."""

from typing import Any, ClassVar

import torch
from torch import nn


class DynamicBufferMixin(nn.Module):
    """A module that takes the size of some buffers from the state that is loaded into it.

    Attributes:
        dynamic_dimensions: Names of such buffers, and which of their dimensions may differ.
    """

    dynamic_dimensions: ClassVar[dict[str, tuple[int, ...]]]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, free in self.dynamic_dimensions.items():
            saved, own = state.get(prefix + name), getattr(self, name)
            # Anything else is left to torch, which refuses it.
            if (
                saved is not None
                and saved.dim() == own.dim()
                and all(saved.shape[i] == own.shape[i] for i in set(range(own.dim())) - set(free))
            ):
                setattr(self, name, torch.empty_like(saved, device=own.device))
        super()._load_from_state_dict(state, prefix, *args)
