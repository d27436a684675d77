# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the TimeNet detector."""

from dataclasses import dataclass

from flow_anomaly_ros.detectors.options import check_option, check_ranges, option

SPACES = ('pixel', 'autoencoder')
# Networks halve maps this often at most: 256 px to 8 are 5 times.
MAX_LEVELS = 8


@dataclass(frozen=True)
class TimeNetConfig:
    """Options of the method; sections, tables and figures are those of the paper.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        classes: Names of the classes of parts; empty: one that has no name.
        backbone: Network whose features compare images with their restorations, a torchvision name
            or `timm/` and a timm name (table 4).
        strides: Strides in px of its levels that are compared: f1 to f5 are 2, 4, 8, 16, 32
            (table 5).
        int8: Whether the backbone is quantised to int8 before training, which makes exported
            models faster.
        space: Space that the flow works in: `pixel`, or the latents of an `autoencoder` (figure 1).
        block: Side in px of the blocks that the autoencoder encodes.
        latents: Maximum number of latent channels.
        base: Channels of the first level of the denoiser, and of the perceptive network (3.1.3).
        multipliers: Channels of each level, in units of `base`.
        attention: How many of the coarsest levels have self-attention.
        blocks: Residual blocks of a level.
        reflows: Rounds of reflow, which straighten the trajectories, k (algorithm 1).
        pairs: Pairs of noise and image that each round generates.
        tolerance: Error tolerance of a step of the RK45 solver.
        perception: Whether a network estimates the time step and guides the denoiser (section 2.2).
        steps: Steps that restore an image; more than one only without `perception` (table 3).
        time: Time step up to which noise is added to images; 1 is no noise (figure 7).
        level_weights: Weight of Euclidean relative to cosine distances, one for all levels or one
            for each, w (equation 5).
        pixel_weight: Weight of the pixel distance beside those of the levels, lambda (equation 5).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        pooling: Rounds of average pooling of the score map before the image score, its maximum.
        textures: Folder of textures for synthetic anomalies; empty: they are generated.
        anomaly_ratio: Share of the perceptive network's training images with synthetic anomalies.
        max_shift: Largest shift in px of the shifted copies.
        augmented_samples: Minimum number of images and shifted copies in the training set.
        flow_steps: Training steps of the flow.
        reflow_steps: Training steps of each reflow.
        perception_steps: Training steps of the perceptive network.
        batch: Batch size.
        learning_rate: Peak learning rate.
    """

    channels: int = option(3, choices=(1, 3))
    classes: tuple[str, ...] = ()
    backbone: str = 'resnet18'
    strides: tuple[int, ...] = option((4, 8, 16), minimum=1)
    int8: bool = False
    space: str = option('autoencoder', choices=SPACES)
    block: int = option(8, minimum=1)
    latents: int = option(32, minimum=1)
    base: int = option(32, minimum=1)
    multipliers: tuple[int, ...] = option((1, 2, 4), minimum=1)
    attention: int = option(1, minimum=0)
    blocks: int = option(1, minimum=1)
    reflows: int = option(1, minimum=0)
    pairs: int = option(128, minimum=1)
    tolerance: float = option(1e-3, above=0)
    perception: bool = True
    steps: int = option(1, minimum=1)
    time: float = option(0.83, above=0, below=1)
    level_weights: tuple[float, ...] = option((7.0,), minimum=0)
    pixel_weight: float = option(7.0, minimum=0)
    smoothing: float = option(4.0, minimum=0)
    pooling: int = option(8, minimum=0)
    textures: str = ''
    anomaly_ratio: float = option(0.5, minimum=0, maximum=1)
    max_shift: int = option(4, minimum=0)
    augmented_samples: int = option(80, minimum=1)
    flow_steps: int = option(2000, minimum=1)
    reflow_steps: int = option(500, minimum=1)
    perception_steps: int = option(6000, minimum=1)
    batch: int = option(8, minimum=1)
    learning_rate: float = option(1e-3, above=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_option(
            len(set(self.classes)) == len(self.classes), 'classes', self.classes, 'unique names'
        )
        check_option(bool(self.strides), 'strides', self.strides, 'one or more numbers')
        check_option(
            1 <= len(self.multipliers) <= MAX_LEVELS,
            'multipliers',
            self.multipliers,
            f'1 to {MAX_LEVELS} numbers',
        )
        check_option(
            self.attention <= len(self.multipliers),
            'attention',
            self.attention,
            'at most the number of multipliers',
        )
        check_option(
            len(self.level_weights) in (1, len(self.strides)),
            'level_weights',
            self.level_weights,
            'one number for all levels or one for each',
        )
        check_option(
            self.steps == 1 or not self.perception,
            'steps',
            self.steps,
            '1 unless perception is false',
        )
