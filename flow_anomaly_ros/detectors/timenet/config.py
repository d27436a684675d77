# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the TimeNet detector."""

from dataclasses import dataclass

from flow_anomaly_ros.detectors.options import check_option

SPACES = ('pixel', 'autoencoder')
# Networks halve maps this often at most: 256 px to 8 are 5 times.
MAX_LEVELS = 8


@dataclass(frozen=True)
class TimeNetConfig:
    """Options of the method; sections, tables and figures are those of the paper.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        classes: Names of the classes of parts; empty: one that has no name.
        backbone: Network that good and restored images are compared in, a torchvision name or
            `timm/` and a timm name (table 4).
        strides: Strides in px of its levels that are compared: f1 to f5 are 2, 4, 8, 16, 32
            (table 5).
        int8: Whether the backbone computes with 8-bit whole numbers, in exported models faster; see
            `layers/quantisation.py`.
        space: What the flow makes: `pixel`, or the latents of an `autoencoder` (figure 1).
        block: Side in px of the blocks that the autoencoder makes latents of.
        latents: Channels of the latents, at most.
        base: Channels of the first level of the denoiser, and of the perceptive network (3.1.3).
        multipliers: Channels of each level, in units of `base`.
        attention: How many of the coarsest levels have self-attention.
        blocks: Residual blocks of a level.
        reflows: How often the flow's ways are straightened, k (algorithm 1).
        pairs: Pairs of noise and image that each of these generates.
        tolerance: What a step on the way from noise to image may err by.
        perception: Whether a network perceives the time step and guides the denoiser (section 2.2).
        steps: Steps that restore an image; more than one only without `perception` (table 3).
        time: Time step that images are noised to; 1 is no noise (figure 7).
        level_weights: For each level, or for all, how much Euclidean distances count beside cosine
            distances, w (equation 5).
        pixel_weight: How much pixels count beside levels, lambda (equation 5).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        pooling: Rounds of average pooling of the score map before its maximum is the image score.
        textures: Folder of pictures that pseudo anomalies are made of; empty: they are generated.
        anomaly_ratio: Share of the perceptive network's training images that get pseudo anomalies.
        max_shift: Where images are few, they are also seen shifted by up to this many px.
        copies: Images and shifted copies in the training set, at least.
        flow_steps: Training steps of the flow.
        reflow_steps: Training steps of each reflow.
        perception_steps: Training steps of the perceptive network.
        batch: Images in a step.
        learning_rate: Peak learning rate.
    """

    channels: int = 3
    classes: tuple[str, ...] = ()
    backbone: str = 'resnet18'
    strides: tuple[int, ...] = (4, 8, 16)
    int8: bool = False
    space: str = 'autoencoder'
    block: int = 8
    latents: int = 32
    base: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4)
    attention: int = 1
    blocks: int = 1
    reflows: int = 1
    pairs: int = 128
    tolerance: float = 1e-3
    perception: bool = True
    steps: int = 1
    time: float = 0.83
    level_weights: tuple[float, ...] = (7.0,)
    pixel_weight: float = 7.0
    smoothing: float = 4.0
    pooling: int = 8
    textures: str = ''
    anomaly_ratio: float = 0.5
    max_shift: int = 4
    copies: int = 80
    flow_steps: int = 2000
    reflow_steps: int = 500
    perception_steps: int = 6000
    batch: int = 8
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_option(self.channels in (1, 3), 'channels', self.channels, '1 or 3')
        check_option(
            len(set(self.classes)) == len(self.classes),
            'classes',
            ', '.join(self.classes),
            'names that differ',
        )
        check_option(self.space in SPACES, 'space', repr(self.space), f'one of {", ".join(SPACES)}')
        for name in ('strides', 'multipliers'):
            values = getattr(self, name)
            check_option(bool(values) and min(values) >= 1, name, values, 'numbers from 1 up')
        check_option(
            len(self.multipliers) <= MAX_LEVELS,
            'multipliers',
            self.multipliers,
            f'{MAX_LEVELS} at most',
        )
        check_option(
            0 <= self.attention <= len(self.multipliers),
            'attention',
            self.attention,
            'between 0 and the number of multipliers',
        )
        check_option(
            len(self.level_weights) in (1, len(self.strides)) and min(self.level_weights) >= 0,
            'level_weights',
            self.level_weights,
            'one for all levels or one for each, 0 or more',
        )
        check_option(0 < self.time < 1, 'time', self.time, 'between 0 and 1')
        check_option(
            self.steps == 1 or not self.perception,
            'steps',
            self.steps,
            '1, or perception must be false',
        )
        check_option(0 <= self.anomaly_ratio <= 1, 'anomaly_ratio', self.anomaly_ratio, '0 to 1')
        for name in ('tolerance', 'learning_rate'):
            check_option(getattr(self, name) > 0, name, getattr(self, name), 'greater than 0')
        for name in (
            'block',
            'latents',
            'base',
            'blocks',
            'pairs',
            'steps',
            'copies',
            'flow_steps',
            'reflow_steps',
            'perception_steps',
            'batch',
        ):
            check_option(getattr(self, name) >= 1, name, getattr(self, name), '1 or more')
        for name in ('reflows', 'pixel_weight', 'smoothing', 'pooling', 'max_shift'):
            check_option(getattr(self, name) >= 0, name, getattr(self, name), '0 or more')
