# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the restoration detector."""

from collections.abc import Sequence
import dataclasses
from dataclasses import dataclass
from typing import Any

from flow_anomaly_ros.detectors.options import check_option
from flow_anomaly_ros.detectors.restoration.prior import PRIORS
from flow_anomaly_ros.layers.resample import DOWNSAMPLINGS, UPSAMPLINGS

PIXELS = 'pixels'
ALIGNMENTS = ('auto', 'always', 'never')
SECOND_IMAGES = ('stored', 'nearest', 'mean')
FUSIONS = ('images', 'features', 'coupling')
CONSTRAINTS = ('likelihood', 'similarity')
REVERSES = ('inverse', 'trained')
ADDED_SIDES = ('smaller', 'larger')
MARKS = ('none', 'rectangle', 'ring')
# Shares of the nearest likely image beside stored ones.
NEAREST_BESIDE_PIXELS = 0.5
NEAREST_BESIDE_NETWORKS = 0.2
METRICS = ('euclidean', 'manhattan')


@dataclass(frozen=True)
class RestorationConfig:
    """Options of the method; paragraphs are those of US 2025/0265693 A1.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        align: Whether parts are turned and shifted to one pose first: `auto`, where the good images
            show that they lie turned or shifted, `always` or `never`.
        scales: Scaling factors of the N images, largest first (paragraphs 66, 82-83).
        backbone: Network that extracts the features, a torchvision name or `timm/` and a timm name,
            or `pixels` for blocks of pixels, which need no weights and are inverted exactly
            (paragraphs 85-86); one for all scales in turn, or one for each (94).
        levels: Levels of the backbone; empty: the last of each of `strides`.
        strides: Strides in px of the levels that are used when none are named. Of a scale of 0.5
            they see as far as those of twice the stride: a coarser level takes long and adds little
            where there are several scales.
        stride: Stride of the features in px.
        aggregation: Levels of a backbone are averaged over this many positions in both directions,
            odd; 1: they are not.
        coarse_weight: Factor of the levels that are coarser than `stride`.
        int8: Whether a backbone computes with 8-bit whole numbers, in exported models faster: good
            parts are learned as such a network sees them.
        components: Principal components of the features that the flow sees; even. 0: all of them
            for pixels, 64 for a backbone.
        fusion: Where scales are fused, any of: `images`, before the features are extracted (claim
            7); `features`, before the flow (paragraphs 88-91); `coupling`, inside the flow's
            coupling networks (96, 103).
        fused_scales: Scaling factors of the images that all others are fused with; empty: the
            images of the next larger and the next smaller size (89).
        upsampling: How smaller maps grow where they are fused: bilinear, bicubic or nearest; one,
            or one for each of `fusion` (91, 96).
        downsampling: How larger maps shrink there: average, max or nearest; likewise.
        targets: What the flow is trained towards (72): `gaussian`, or the continuous forms of
            `exponential` and `poisson`; one for all scales, or one for each.
        constraint: Constraint function of the training: `likelihood`, or the patent's
            `similarity`, 1 / (1 + mean square error), to the target distribution as a fixed matrix
            (109).
        first_threshold: Similarity above which, at all scales, training by `similarity` stops
            before its last step (109); 1: never.
        reverse: Second flow model: `inverse`, the reverse of the first (69), or `trained`
            separately (70).
        second_threshold: Similarity of restored to scaled images, 1 / (1 + mean pixel distance),
            above which, at all scales, the scaling factors are kept; otherwise `added_scales`
            more are added and training goes on (110-111, 114); 0: they are always kept. Where all
            components of blocks of pixels are kept and `reverse` is `inverse`, the restored images
            are the scaled ones, and always similar enough.
        added_scales: Scaling factors added at a time, K in paragraph 110.
        added_side: Which ones: `smaller`, halves of the smallest, or `larger`, doubles of the
            largest (112).
        most_scales: Scaling factors after which no more are added.
        mark: Mark in the images whose area alone is compared for that: `none`, `rectangle` or
            `ring` (113).
        blocks: Coupling blocks of the flow (figure 10).
        hidden: Hidden channels of the coupling networks.
        second_images: What restored images are compared with (paragraph 72), one or several of:
            `stored`, at every position the nearest of the images of good parts, stored once;
            `nearest`, restored for each image from the likely point of the target distribution
            nearest to the predicted one; `mean`, restored from the target distribution's mean.
        second_weights: Shares of their distances, in the same order; empty: 1, and for `nearest`
            beside others 0.5 with blocks of pixels and 0.2 with a network, which sees more than a
            block and finds with `stored` alone that a hole is missing.
        stored: Images and shifted copies whose features are stored, at most.
        coreset: Points kept of them at every position, the others being near one of these; 0: all.
        tolerance: Standard deviations from the target's mean that are likely.
        metric: Pixel distance, `euclidean` or `manhattan` (paragraph 81).
        feature_weight: Share of the distance between the features of restored and second images
            (paragraph 97) in the score map.
        pixel_weight: Share of the distance between the images themselves. Blocks of pixels are
            images: for them it is 1 and `feature_weight` has no meaning.
        relative: Whether distances are seen beside those that held-out good images have at the same
            place; see `layers/usual.py`.
        normalised: Whether the distances of each scale are brought to 0..1 within an image before
            they are added (73, 79). For the mask rules `mean` and `half`; the image score is that
            of the distances as they are.
        border_weight: Share that distances at the outermost positions have in the image score:
            networks see zeros beside them, and parts are cut off there.
        map_upsampling: How smaller distance maps grow to the image's size: bilinear, bicubic or
            nearest (78).
        map_downsampling: How larger ones shrink to it: average, max or nearest (78).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Training images are also seen shifted by up to this many px.
        copies: Images and shifted copies in the training set, at least.
        flow_steps: Training steps of the flow.
        decoder_steps: Training steps of the inverse feature model; pixels need none. 0: it is left
            out, and with it the pictures of restored images; scores stay as they are.
        batch: Images in a step.
        learning_rate: Peak learning rate of the flow.
        decoder_learning_rate: Peak learning rate of the inverse feature model.
    """

    channels: int = 3
    align: str = 'auto'
    scales: tuple[float, ...] = (1.0, 0.5)
    backbone: tuple[str, ...] = (PIXELS,)
    levels: tuple[str, ...] = ()
    strides: tuple[int, ...] = (4, 8)
    stride: int = 8
    aggregation: int = 3
    coarse_weight: float = 0.3
    int8: bool = False
    components: int = 0
    fusion: tuple[str, ...] = ('coupling',)
    fused_scales: tuple[float, ...] = ()
    upsampling: tuple[str, ...] = ('bilinear',)
    downsampling: tuple[str, ...] = ('average',)
    targets: tuple[str, ...] = ('gaussian',)
    constraint: str = 'likelihood'
    first_threshold: float = 1.0
    reverse: str = 'inverse'
    second_threshold: float = 0.0
    added_scales: int = 1
    added_side: str = 'smaller'
    most_scales: int = 6
    mark: str = 'none'
    blocks: int = 2
    hidden: int = 32
    second_images: tuple[str, ...] = ('stored', 'nearest')
    second_weights: tuple[float, ...] = ()
    stored: int = 300
    coreset: int = 100
    tolerance: float = 1.0
    metric: str = 'euclidean'
    feature_weight: float = 1.0
    pixel_weight: float = 0.0
    relative: bool = True
    normalised: bool = False
    border_weight: float = 0.5
    map_upsampling: str = 'bilinear'
    map_downsampling: str = 'average'
    smoothing: float = 4.0
    max_shift: int = 4
    copies: int = 80
    flow_steps: int = 100
    decoder_steps: int = 100
    batch: int = 2
    learning_rate: float = 1e-3
    decoder_learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        check_option(self.channels in (1, 3), 'channels', self.channels, '1 or 3')
        check_option(
            len(self.scales) > 0
            and all(scale > 0 for scale in self.scales)
            and list(self.scales) == sorted(set(self.scales), reverse=True),
            'scales',
            list(self.scales),
            'positive and falling, such as [1.0, 0.5, 0.25]',
        )
        check_option(
            bool(self.strides) and min(self.strides) >= 1,
            'strides',
            self.strides,
            'numbers from 1 up',
        )
        check_option(
            self.stride in (2, 4, 8, 16, 32), 'stride', self.stride, 'one of 2, 4, 8, 16, 32'
        )
        check_option(
            self.components >= 0 and self.components % 2 == 0,
            'components',
            self.components,
            'even and not negative',
        )
        check_option(
            self.aggregation >= 1 and self.aggregation % 2 == 1,
            'aggregation',
            self.aggregation,
            'odd and positive',
        )
        for name in (
            'blocks',
            'hidden',
            'flow_steps',
            'batch',
            'copies',
            'added_scales',
            'most_scales',
        ):
            check_option(getattr(self, name) >= 1, name, getattr(self, name), '1 or more')
        # Each image in turn is compared with the others.
        check_option(self.stored >= 2, 'stored', self.stored, '2 or more')
        for name in (
            'tolerance',
            'pixel_weight',
            'feature_weight',
            'smoothing',
            'max_shift',
            'coreset',
            'decoder_steps',
        ):
            check_option(getattr(self, name) >= 0, name, getattr(self, name), '0 or more')
        for name, several, known in (
            ('fusion', self.fusion, FUSIONS),
            ('targets', self.targets, PRIORS),
            ('upsampling', self.upsampling, UPSAMPLINGS),
            ('downsampling', self.downsampling, DOWNSAMPLINGS),
        ):
            check_option(
                set(several) <= set(known), name, list(several), f'some of {", ".join(known)}'
            )
        check_option(
            set(self.fused_scales) <= set(self.scales),
            'fused_scales',
            list(self.fused_scales),
            f'some of the scales {list(self.scales)}',
        )
        each_scale = len(self.scales), f'each of the {len(self.scales)} scales'
        each_fusion = len(self.fusion), f'each fusion in {list(self.fusion)}'
        for name, (count, each) in (
            ('targets', each_scale),
            ('backbone', each_scale),
            ('upsampling', each_fusion),
            ('downsampling', each_fusion),
        ):
            values = getattr(self, name)
            check_option(len(values) in (1, count), name, list(values), f'one, or one for {each}')
        check_option(
            PIXELS not in self.backbone or set(self.backbone) == {PIXELS},
            'backbone',
            list(self.backbone),
            'pixels or networks, not both',
        )
        check_option(
            PIXELS not in self.backbone or not self.int8,
            'int8',
            self.int8,
            'false for pixels: only networks compute with whole numbers',
        )
        check_option(
            0 < self.first_threshold <= 1,
            'first_threshold',
            self.first_threshold,
            'greater than 0 and at most 1',
        )
        check_option(
            0 <= self.second_threshold < 1,
            'second_threshold',
            self.second_threshold,
            'at least 0 and less than 1',
        )
        check_option(
            len(self.second_images) > 0
            and set(self.second_images) <= set(SECOND_IMAGES)
            and len(set(self.second_images)) == len(self.second_images),
            'second_images',
            list(self.second_images),
            f'some of {", ".join(SECOND_IMAGES)}, each once',
        )
        check_option(
            len(self.second_weights) in (0, len(self.second_images))
            and all(weight > 0 for weight in self.second_weights),
            'second_weights',
            list(self.second_weights),
            f'a number greater than 0 for each of {", ".join(self.second_images)}',
        )
        check_option(
            self.feature_weight > 0 or self.image_share > 0,
            'feature_weight',
            self.feature_weight,
            'greater than 0 where pixel_weight does not count',
        )
        check_option(
            self.decoder_steps > 0 or not self.compares_decoded,
            'decoder_steps',
            self.decoder_steps,
            '1 or more where pixel_weight or second_threshold is: they compare restored images',
        )
        for name in ('learning_rate', 'decoder_learning_rate', 'coarse_weight', 'border_weight'):
            check_option(getattr(self, name) > 0, name, getattr(self, name), 'greater than 0')
        for name, choices in (
            ('align', ALIGNMENTS),
            ('map_upsampling', UPSAMPLINGS),
            ('map_downsampling', DOWNSAMPLINGS),
            ('added_side', ADDED_SIDES),
            ('mark', MARKS),
            ('constraint', CONSTRAINTS),
            ('reverse', REVERSES),
            ('metric', METRICS),
        ):
            check_option(
                getattr(self, name) in choices,
                name,
                repr(getattr(self, name)),
                f'one of {", ".join(choices)}',
            )

    @property
    def needs_decoder(self) -> bool:
        """Whether the inverse of the feature model has to be learned.

        Features that were fused are no longer the image's, even if they are blocks of pixels.
        """
        return PIXELS not in self.backbone or 'features' in self.fusion

    @property
    def has_decoder(self) -> bool:
        """Whether it is learned."""
        return self.needs_decoder and self.decoder_steps > 0

    @property
    def compares_decoded(self) -> bool:
        """Whether what it makes has a share in scores or scales, and not in pictures alone."""
        return self.needs_decoder and (self.pixel_weight > 0 or self.second_threshold > 0)

    @property
    def image_share(self) -> float:
        """Share of the distance between images: all of it where they are the features."""
        return self.pixel_weight if self.needs_decoder else 1.0

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the distance to each kind of second images."""
        if self.second_weights or len(self.second_images) == 1:
            return self.second_weights or (1.0,)
        beside = NEAREST_BESIDE_PIXELS if PIXELS in self.backbone else NEAREST_BESIDE_NETWORKS
        return tuple(beside if kind == 'nearest' else 1.0 for kind in self.second_images)

    def of_each_scale(self, name: str) -> tuple[str, ...]:
        """Return `targets` or `backbone`, one for each scale."""
        return _of_each(getattr(self, name), len(self.scales))

    def resampling(self, fusion: str) -> tuple[str, str]:
        """Upsampling and downsampling of one of `FUSIONS`."""
        index, count = self.fusion.index(fusion), len(self.fusion)
        return _of_each(self.upsampling, count)[index], _of_each(self.downsampling, count)[index]

    def with_scales(self, added: Sequence[float]) -> 'RestorationConfig':
        """Add scaling factors that are all smaller or all larger than those there are.

        What differs between scales is for them as for the nearest scale.
        """
        larger = added[0] > self.scales[0]
        changes: dict[str, Any] = {
            'scales': tuple(sorted({*self.scales, *added}, reverse=True)),
        }
        for name in ('targets', 'backbone'):
            values = getattr(self, name)
            if len(values) > 1:
                more = (values[0 if larger else -1],) * len(added)
                changes[name] = more + values if larger else values + more
        return dataclasses.replace(self, **changes)


def _of_each(values: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Repeat a single value that stands for `count` of them."""
    return values if len(values) > 1 else values * count
