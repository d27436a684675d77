# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Modules with buffers whose shapes depend on the training images."""

from typing import Any, ClassVar

import torch
from torch import nn


class DynamicBufferMixin(nn.Module):
    """A module whose buffers take their shapes from the state dict that is loaded.

    Attributes:
        dynamic_dimensions: Dimensions that may differ, by the name of the buffer.
    """

    dynamic_dimensions: ClassVar[dict[str, tuple[int, ...]]]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, dynamic in self.dynamic_dimensions.items():
            saved, own = state.get(prefix + name), getattr(self, name)
            fixed = set(range(own.dim())) - set(dynamic)
            # Any other mismatch is left to PyTorch, which raises an error.
            if (
                saved is not None
                and saved.dim() == own.dim()
                and all(saved.shape[i] == own.shape[i] for i in fixed)
            ):
                setattr(self, name, torch.empty_like(saved, device=own.device))
        super()._load_from_state_dict(state, prefix, *args)
