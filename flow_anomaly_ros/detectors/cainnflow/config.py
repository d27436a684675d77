# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the CAINNFlow detector."""

from dataclasses import dataclass

from flow_anomaly_ros.detectors.options import check_ranges, option

FORMS = ('CA', 'AC', 'CAC', 'CC')


@dataclass(frozen=True)
class CainnFlowConfig:
    """Options of the method; sections, equations and tables are those of the paper.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        backbone: Network that extracts the features, a torchvision name or `timm/` and a timm name;
            the paper's are resnet18, wide_resnet50_2, and a DeiT and a CaiT of timm (table 4).
        levels: Levels of the backbone, each with a flow of its own; empty: the last of stride 4, 8
            and 16, or a transformer's block at two thirds of its depth.
        int8: Whether the backbone is quantised to int8 before training, which makes exported
            models faster.
        form: Coupling networks: convolution (C) and block attention (A) in this order, `CA`, `AC`,
            `CAC` or `CC` (section 3.3, equations 9 to 12; table 2).
        blocks: Coupling blocks of each flow, the paper's steps (table 3).
        hidden_ratio: Channels between the two convolutions of `CAC` and `CC`, as a share of those
            that go in.
        reduction: Reduction ratio of the channel attention, r (section 3.2).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Largest shift in px of the shifted copies.
        augmented_samples: Minimum number of images and shifted copies in the training set.
        steps: Training steps.
        batch: Batch size.
        learning_rate: Peak learning rate (section 4.5).
    """

    channels: int = option(3, choices=(1, 3))
    backbone: str = 'resnet18'
    levels: tuple[str, ...] = ()
    int8: bool = False
    form: str = option('CAC', choices=FORMS)
    blocks: int = option(2, minimum=1)
    hidden_ratio: float = option(1.0, above=0)
    reduction: int = option(16, minimum=1)
    smoothing: float = option(4.0, minimum=0)
    max_shift: int = option(4, minimum=0)
    augmented_samples: int = option(80, minimum=1)
    steps: int = option(400, minimum=1)
    batch: int = option(8, minimum=1)
    learning_rate: float = option(5e-4, above=0)

    def __post_init__(self) -> None:
        check_ranges(self)
