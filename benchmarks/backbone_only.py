# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The backbone that a method computes its features with, alone."""

from collections.abc import Callable
from pathlib import Path

from flow_anomaly_ros.layers.backbone import Backbone
from on_backends import on_backends
from torch import Tensor


def backbone_only(
    name: str, weights: Path, images: Tensor, folder: Path, threads: int
) -> dict[str, Callable[[], object]]:
    """Give functions that run a backbone once, down to stride 16, as far as FastFlow does.

    Args:
        name: Of the network.
        weights: Its file.
        images: Bx3xHxW.
        folder: For the exported network.
        threads: See `on_backends`.

    Returns:
        The functions by the names of their rows.
    """
    backbone = Backbone(name)
    backbone.load_pretrained(weights)
    backends = on_backends(backbone.extractor, images, folder, threads)
    return {f'bare backbone, {backend}': run for backend, run in backends}
