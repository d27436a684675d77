# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the NF-BMR detector."""

from dataclasses import dataclass

from flow_anomaly_ros.detectors.options import require

MAPPINGS = ('residual', 'plain', 'none')


@dataclass(frozen=True)
class NfBmrConfig:
    """Options of the method; sections and tables are those of the paper.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        backbone: Network that makes the source domain, a torchvision name or `timm/` and a timm
            name (section 3.1).
        levels: Levels of it, resized to one map; with efficientnet_b5 `features.6` ends with its
            36th block, of 304 channels (section 4.2).
        stride: Stride of that map in px.
        components: Principal components of the features that make the source domain; even; 0: all.
        blocks: Coupling blocks of the flow (section 4.2).
        flow_hidden: Hidden channels of its coupling networks (section 4.2).
        mapping: Networks between both domains: `residual`, the paper's; `plain`, five layers of
            1x1 convolutions, as B-PFM has (table 5, row 4); `none`: the flow alone (row 5).
        residual_blocks: Residual blocks on either side of the shared one, n (table 5, rows 1 to 3).
        hidden: Hidden channels of the mapping (section 4.2).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Training images are also seen shifted by up to this many px.
        copies: Images and shifted copies in the training set, at least.
        flow_steps: Training steps of the flow.
        mapping_steps: Training steps of the mapping.
        batch: Images in a step (section 4.2).
        flow_learning_rate: Peak learning rate of the flow (section 4.2).
        mapping_learning_rate: Peak learning rate of the mapping (section 4.2).
    """

    channels: int = 3
    backbone: str = 'efficientnet_b5'
    levels: tuple[str, ...] = ('features.6',)
    stride: int = 32
    components: int = 0
    blocks: int = 4
    flow_hidden: int = 1024
    mapping: str = 'residual'
    residual_blocks: int = 2
    hidden: int = 1024
    smoothing: float = 4.0
    max_shift: int = 4
    copies: int = 80
    flow_steps: int = 400
    mapping_steps: int = 400
    batch: int = 8
    flow_learning_rate: float = 2e-4
    mapping_learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        require(self.channels in (1, 3), 'channels', self.channels, '1 or 3')
        require(self.stride in (2, 4, 8, 16, 32), 'stride', self.stride, 'one of 2, 4, 8, 16, 32')
        require(
            self.components >= 0 and self.components % 2 == 0,
            'components',
            self.components,
            'even and not negative',
        )
        require(
            self.mapping in MAPPINGS,
            'mapping',
            repr(self.mapping),
            f'one of {", ".join(MAPPINGS)}',
        )
        for name in (
            'blocks',
            'flow_hidden',
            'residual_blocks',
            'hidden',
            'copies',
            'flow_steps',
            'mapping_steps',
            'batch',
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), '1 or more')
        for name in ('smoothing', 'max_shift'):
            require(getattr(self, name) >= 0, name, getattr(self, name), '0 or more')
        for name in ('flow_learning_rate', 'mapping_learning_rate'):
            require(getattr(self, name) > 0, name, getattr(self, name), 'greater than 0')
