# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Initial weights of layers."""

from typing import TypeVar

from torch import nn

Layer = TypeVar('Layer', bound=nn.Module)


def zero_init(layer: Layer) -> Layer:
    """Set all parameters of a layer to zero, in place; returns the layer."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
