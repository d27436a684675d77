# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the NF-BMR detector."""

from dataclasses import dataclass

from flow_anomaly_ros.detectors.options import check_ranges, option

MAPPINGS = ('residual', 'plain', 'none')


@dataclass(frozen=True)
class NfBmrConfig:
    """Options of the method; sections and tables are those of the paper.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        backbone: Network whose features form the source domain, a torchvision name or `timm/` and
            a timm name (section 3.1).
        levels: Levels of it, resized to one map; empty: `features.6` of efficientnet_b5, which ends
            with its 36th block, of 304 channels (section 4.2), and the last ones of stride 8 and
            16 of any other.
        int8: Whether the backbone is quantised to int8 before training, which makes exported
            models faster.
        stride: Stride of that map in px; 0: 32 for efficientnet_b5, 16 for any other.
        components: Principal components of the features in the source domain; even; 0: all.
        blocks: Coupling blocks of the flow (section 4.2).
        flow_hidden: Hidden channels of its coupling networks; 0: as many as the source domain has;
            1024 in the paper (section 4.2).
        mapping: Networks between both domains: `residual`, the paper's; `plain`, five layers of
            1x1 convolutions, as B-PFM has (table 5, row 4); `none`: the flow alone (row 5).
        residual_blocks: Residual blocks on either side of the shared one, n (table 5, rows 1 to 3).
        hidden: Hidden channels of the mapping; 0: as many as the source domain has; 1024 in the
            paper (section 4.2).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Largest shift in px of the shifted copies.
        augmented_samples: Minimum number of images and shifted copies in the training set.
        flow_steps: Training steps of the flow.
        mapping_steps: Training steps of the mapping.
        batch: Batch size (section 4.2: 8).
        flow_learning_rate: Peak learning rate of the flow; 2e-4 in the paper (section 4.2).
        mapping_learning_rate: Peak learning rate of the mapping; 3e-4 in the paper (section 4.2).
    """

    channels: int = option(3, choices=(1, 3))
    backbone: str = 'efficientnet_b5'
    levels: tuple[str, ...] = ()
    int8: bool = False
    stride: int = option(0, choices=(0, 2, 4, 8, 16, 32))
    components: int = option(0, minimum=0, parity='even')
    blocks: int = option(4, minimum=1)
    flow_hidden: int = option(0, minimum=0)
    mapping: str = option('residual', choices=MAPPINGS)
    residual_blocks: int = option(2, minimum=1)
    hidden: int = option(0, minimum=0)
    smoothing: float = option(4.0, minimum=0)
    max_shift: int = option(4, minimum=0)
    augmented_samples: int = option(80, minimum=1)
    flow_steps: int = option(600, minimum=1)
    mapping_steps: int = option(3000, minimum=1)
    batch: int = option(4, minimum=1)
    flow_learning_rate: float = option(5e-4, above=0)
    mapping_learning_rate: float = option(1e-3, above=0)

    def __post_init__(self) -> None:
        check_ranges(self)
