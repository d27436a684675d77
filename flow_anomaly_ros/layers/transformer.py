# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Vision transformers of timm, such as DeiT and CaiT, as extractors of feature maps."""

from collections.abc import Sequence
from typing import Any

from flow_anomaly_ros.layers.resample import resize
from torch import nn, Tensor

PREFIX = 'blocks.'
# Share of the blocks that comes before the level that is used when none is named.
DEFAULT_DEPTH = 2 / 3


def is_transformer(network: nn.Module) -> bool:
    """Whether a network is one of patches with positions, which takes one size of image."""
    about = getattr(network, 'pretrained_cfg', {})
    return bool(about.get('fixed_input_size')) and hasattr(network, 'pos_embed')


def default_level(network: Any) -> str:
    """Return the block that is used when none is named."""
    return f'{PREFIX}{round(DEFAULT_DEPTH * len(network.blocks)) - 1}'


class TokenMaps(nn.Module):
    """The patches behind some blocks, each as a feature map.

    Args:
        network: A transformer of timm.
        levels: Names of blocks, for example `blocks.7`.

    Raises:
        ValueError: Unknown level.
    """

    # A timm network, of which only its own attributes are known.
    network: Any

    def __init__(self, network: Any, levels: Sequence[str]) -> None:
        super().__init__()
        names = [f'{PREFIX}{index}' for index in range(len(network.blocks))]
        unknown = [level for level in levels if level not in names]
        if unknown:
            msg = f'it has {names[0]} to {names[-1]}'
            raise ValueError(msg)
        self.levels = tuple(levels)
        self.indices = [names.index(level) for level in levels]
        self.size: tuple[int, int] = network.pretrained_cfg['input_size'][1:]
        # What comes behind the deepest block would only make the model file larger.
        network.prune_intermediate_layers(self.indices)
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images of any size to BxCxhxw maps by level; h and w never change."""
        maps = self.network.forward_intermediates(
            resize(images, self.size), indices=self.indices, intermediates_only=True
        )
        return dict(zip(self.levels, maps, strict=True))
