# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Vision transformers of timm, such as DeiT and CaiT, as extractors of feature maps."""

from collections.abc import Sequence
from typing import Any

from flow_anomaly_ros.layers.resample import resize
from torch import nn, Tensor

BLOCK_PREFIX = 'blocks.'
# Depth of the default level, as a share of the number of blocks.
DEFAULT_DEPTH = 2 / 3


def is_transformer(network: nn.Module) -> bool:
    """Whether a network is a timm transformer with position embeddings for one image size."""
    pretrained_cfg = getattr(network, 'pretrained_cfg', {})
    return bool(pretrained_cfg.get('fixed_input_size')) and hasattr(network, 'pos_embed')


def default_level(network: Any) -> str:
    """Return the name of the block at `DEFAULT_DEPTH`."""
    return f'{BLOCK_PREFIX}{round(DEFAULT_DEPTH * len(network.blocks)) - 1}'


class TokenMaps(nn.Module):
    """Patch tokens behind selected transformer blocks, rearranged to feature maps.

    Args:
        network: A transformer of timm.
        levels: Names of blocks, for example `blocks.7`.

    Raises:
        ValueError: A block does not exist.
    """

    # Any: timm's attributes are unknown to type checkers.
    network: Any

    def __init__(self, network: Any, levels: Sequence[str]) -> None:
        super().__init__()
        names = [f'{BLOCK_PREFIX}{index}' for index in range(len(network.blocks))]
        unknown = [level for level in levels if level not in names]
        if unknown:
            msg = f'it has {names[0]} to {names[-1]}'
            raise ValueError(msg)
        self.levels = tuple(levels)
        self.indices = [names.index(level) for level in levels]
        self.size: tuple[int, int] = network.pretrained_cfg['input_size'][1:]
        # Blocks behind the deepest level would only enlarge the model file.
        network.prune_intermediate_layers(self.indices)
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Extract feature maps.

        Args:
            images: Normalised Bx3xHxW images of any size; they are resized to the network's own.

        Returns:
            One BxCxhxw map per level, by its name; h and w are those of the network's patches.
        """
        maps = self.network.forward_intermediates(
            resize(images, self.size), indices=self.indices, intermediates_only=True
        )
        return dict(zip(self.levels, maps, strict=True))
