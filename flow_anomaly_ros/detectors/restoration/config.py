# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the restoration detector."""

from dataclasses import dataclass

from flow_anomaly_ros.layers.fusion import DOWNSAMPLINGS, UPSAMPLINGS
from flow_anomaly_ros.layers.prior import PRIORS

PIXELS = 'pixels'
ALIGNMENTS = ('auto', 'always', 'never')
SECOND_IMAGES = ('stored', 'nearest', 'mean')
FUSIONS = ('images', 'features', 'coupling')
CONSTRAINTS = ('likelihood', 'similarity')
REVERSES = ('inverse', 'trained')
METRICS = ('euclidean', 'manhattan')


@dataclass(frozen=True)
class RestorationConfig:
    """Options of the method; paragraphs are those of US 2025/0265693 A1.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        align: Whether parts are turned and shifted to one pose first: `auto`, where the good images
            show that they lie turned or shifted, `always` or `never`.
        scales: Scaling factors of the N images, largest first (paragraphs 66, 82-83).
        backbone: torchvision model that extracts the features, or `pixels` for blocks of pixels,
            which need no weights and are inverted exactly (paragraphs 85-86).
        levels: Levels of the backbone; empty: the last of stride 4, 8 and 16.
        stride: Stride of the features in px.
        components: Principal components of the features that the flow sees; even. 0: all of them
            for pixels, 64 for a backbone.
        fusion: Where scales are fused, any of: `images`, before the features are extracted (claim
            7); `features`, before the flow (paragraphs 88-91); `coupling`, inside the flow's
            coupling networks (96, 103).
        fused_scales: Scaling factors of the images that all others are fused with; empty: the
            images of the next larger and the next smaller size (89).
        upsampling: How smaller maps grow where they are fused: bilinear, bicubic or nearest (91).
        downsampling: How larger maps shrink there: average, max or nearest (91).
        targets: What the flow is trained towards (72): `gaussian`, or the continuous forms of
            `exponential` and `poisson`; one for all scales, or one for each.
        constraint: Constraint function of the training: `likelihood`, or the patent's
            `similarity`, 1 / (1 + mean square error), to the target distribution as a fixed matrix
            (109).
        first_threshold: Similarity above which, at all scales, training by `similarity` stops
            before its last step (109); 1: never.
        reverse: Second flow model: `inverse`, the reverse of the first (69), or `trained`
            separately (70).
        blocks: Coupling blocks of the flow (figure 10).
        hidden: Hidden channels of the coupling networks.
        second_images: What restored images are compared with (paragraph 72), one or several of:
            `stored`, at every position the nearest of the images of good parts, stored once;
            `nearest`, restored for each image from the likely point of the target distribution
            nearest to the predicted one; `mean`, restored from the target distribution's mean.
        second_weights: Shares of their distances, in the same order.
        stored: Images and shifted copies stored at most.
        tolerance: Standard deviations from the target's mean that are likely.
        metric: Pixel distance, `euclidean` or `manhattan` (paragraph 81).
        feature_weight: Share of the distance between the features of restored and second images
            (paragraph 97) in the score map.
        pixel_weight: Share of the distance between the images themselves. Blocks of pixels are
            images: for them it is 1 and `feature_weight` has no meaning.
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Training images are also seen shifted by up to this many px.
        copies: Images and shifted copies in the training set, at least.
        flow_steps: Training steps of the flow.
        decoder_steps: Training steps of the inverse feature model; pixels need none.
        batch: Images in a step.
        learning_rate: Peak learning rate of the flow.
        decoder_learning_rate: Peak learning rate of the inverse feature model.
    """

    channels: int = 3
    align: str = 'auto'
    scales: tuple[float, ...] = (1.0, 0.5, 0.25)
    backbone: str = PIXELS
    levels: tuple[str, ...] = ()
    stride: int = 8
    components: int = 0
    fusion: tuple[str, ...] = ('coupling',)
    fused_scales: tuple[float, ...] = ()
    upsampling: str = 'bilinear'
    downsampling: str = 'average'
    targets: tuple[str, ...] = ('gaussian',)
    constraint: str = 'likelihood'
    first_threshold: float = 1.0
    reverse: str = 'inverse'
    blocks: int = 2
    hidden: int = 64
    second_images: tuple[str, ...] = ('stored', 'nearest')
    second_weights: tuple[float, ...] = (1.0, 0.5)
    stored: int = 300
    tolerance: float = 1.0
    metric: str = 'euclidean'
    feature_weight: float = 1.0
    pixel_weight: float = 0.0
    smoothing: float = 4.0
    max_shift: int = 4
    copies: int = 80
    flow_steps: int = 100
    decoder_steps: int = 100
    batch: int = 2
    learning_rate: float = 1e-3
    decoder_learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        _require(self.channels in (1, 3), 'channels', self.channels, '1 or 3')
        _require(
            len(self.scales) > 0
            and all(scale > 0 for scale in self.scales)
            and list(self.scales) == sorted(set(self.scales), reverse=True),
            'scales',
            list(self.scales),
            'positive and falling, such as [1.0, 0.5, 0.25]',
        )
        _require(self.stride in (2, 4, 8, 16, 32), 'stride', self.stride, 'one of 2, 4, 8, 16, 32')
        _require(
            self.components >= 0 and self.components % 2 == 0,
            'components',
            self.components,
            'even and not negative',
        )
        for name in (
            'blocks',
            'hidden',
            'flow_steps',
            'decoder_steps',
            'batch',
            'copies',
            'stored',
        ):
            _require(getattr(self, name) >= 1, name, getattr(self, name), '1 or more')
        for name in ('tolerance', 'pixel_weight', 'feature_weight', 'smoothing', 'max_shift'):
            _require(getattr(self, name) >= 0, name, getattr(self, name), '0 or more')
        for name, several, known in (
            ('fusion', self.fusion, FUSIONS),
            ('targets', self.targets, PRIORS),
        ):
            _require(set(several) <= set(known), name, list(several), f'some of {", ".join(known)}')
        _require(
            set(self.fused_scales) <= set(self.scales),
            'fused_scales',
            list(self.fused_scales),
            f'some of the scales {list(self.scales)}',
        )
        _require(
            len(self.targets) in (1, len(self.scales)),
            'targets',
            list(self.targets),
            f'one, or one for each of the {len(self.scales)} scales',
        )
        _require(
            0 < self.first_threshold <= 1,
            'first_threshold',
            self.first_threshold,
            'greater than 0 and at most 1',
        )
        _require(
            len(self.second_images) > 0
            and set(self.second_images) <= set(SECOND_IMAGES)
            and len(set(self.second_images)) == len(self.second_images),
            'second_images',
            list(self.second_images),
            f'some of {", ".join(SECOND_IMAGES)}, each once',
        )
        _require(
            len(self.second_weights) == len(self.second_images)
            and all(weight > 0 for weight in self.second_weights),
            'second_weights',
            list(self.second_weights),
            f'a number greater than 0 for each of {", ".join(self.second_images)}',
        )
        _require(
            self.feature_weight > 0 or self.pixel_weight > 0 or self.backbone == PIXELS,
            'feature_weight',
            self.feature_weight,
            'greater than 0 where pixel_weight does not count',
        )
        for name in ('learning_rate', 'decoder_learning_rate'):
            _require(getattr(self, name) > 0, name, getattr(self, name), 'greater than 0')
        for name, choices in (
            ('align', ALIGNMENTS),
            ('upsampling', UPSAMPLINGS),
            ('downsampling', DOWNSAMPLINGS),
            ('constraint', CONSTRAINTS),
            ('reverse', REVERSES),
            ('metric', METRICS),
        ):
            _require(
                getattr(self, name) in choices,
                name,
                repr(getattr(self, name)),
                f'one of {", ".join(choices)}',
            )


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        msg = f'{name} is {value}: it must be {wanted}'
        raise ValueError(msg)
