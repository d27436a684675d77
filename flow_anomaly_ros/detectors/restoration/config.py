# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the restoration detector."""

from collections.abc import Sequence
import dataclasses
from dataclasses import dataclass
from typing import Any

from flow_anomaly_ros.detectors.options import check_option, check_ranges, option
from flow_anomaly_ros.detectors.restoration.prior import PRIORS
from flow_anomaly_ros.layers.resample import DOWNSAMPLINGS, UPSAMPLINGS

PIXELS = 'pixels'
ALIGNMENTS = ('auto', 'always', 'never')
REFERENCE_IMAGES = ('memory_bank', 'restored', 'nearest', 'mean')
FUSIONS = ('images', 'features', 'coupling')
CONSTRAINTS = ('likelihood', 'similarity')
REVERSES = ('inverse', 'trained')
ADDED_SIDES = ('smaller', 'larger')
OCCLUSION_PATTERNS = ('none', 'rectangle', 'ring')
METRICS = ('euclidean', 'manhattan')
COMBINATIONS = ('agreement', 'sum')
SCALE_WEIGHTINGS = ('equal', 'area')
# Default weights of the nearest likely images beside other reference images.
NEAREST_WEIGHT_PIXELS = 0.5
NEAREST_WEIGHT_NETWORK = 0.2
# Those of restored images, by `combination`.
RESTORED_WEIGHTS = {'agreement': 5.0, 'sum': 4.0}

# Stages of the method, in their order.
SCALES, FEATURES, FUSION, FLOW, ADJUSTMENT, REFERENCE, SCORE, TRAINING = (
    'images and scales',
    'features',
    'fusion of scales',
    'flow model',
    'adjustment of the scaling factors',
    'reference images',
    'score map',
    'training',
)


@dataclass(frozen=True)
class RestorationConfig:
    """Options of the method; paragraphs are those of US 2025/0265693 A1.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        align: Whether parts are first registered to a common pose: `auto`, if the good images show
            parts that are rotated or shifted, `always` or `never`.
        scales: Scaling factors of the N images, largest first (paragraphs 66, 82-83).
        backbone: Network that extracts the features: a torchvision name, `timm/` and a timm name,
            or `efficientnet_lite0`, whose weights are a pip package. `pixels`: blocks of pixels,
            which need no weights and are inverted exactly (85-86). One for all scales or one for
            each (94).
        levels: Levels of the backbone; empty: the last of each of `strides`.
        strides: Strides in px of the levels that are used when none are named. At a scale of 0.5
            they have the receptive field of twice the stride: with several scales a coarser level
            adds time and little accuracy.
        stride: Stride of the features in px.
        aggregation: Side of the window, in positions, that each level is averaged over; odd; 1:
            no averaging.
        coarse_weight: Factor of the levels that are coarser than `stride`.
        int8: Whether the backbone is quantised to int8 before training, which makes exported
            models faster.
        components: Principal components of the features that the flow sees; even. 0: all of them
            for pixels, 64 for a backbone.
        fusion: Where scales are fused, any of: `images`, before the features are extracted (claim
            7); `features`, before the flow (88-91); `coupling`, inside the flow's coupling networks
            (96, 103).
        fused_scales: Scaling factors of the images that all others are fused with; empty: the
            images of the next larger and the next smaller size (89).
        upsampling: Interpolation of smaller maps where they are fused: bilinear, bicubic or
            nearest; one, or one for each of `fusion` (91, 96).
        downsampling: How larger maps are reduced there: average, max or nearest; likewise.
        blocks: Coupling blocks of the flow (figure 10). 0: the identity in place of the flow, to
            see what the flow contributes. The flow is trained for `nearest` and `mean` of the
            `reference_images`, and if `reverse` is `trained`; for others it is left out.
        hidden: Hidden channels of the coupling networks.
        targets: Distribution that the flow is trained towards (72): `gaussian`, or the continuous
            forms of `exponential` and `poisson`; one for all scales or one for each.
        constraint: Constraint function of the training: `likelihood`, or the patent's
            `similarity`, 1 / (1 + mean squared error), to the target distribution as a fixed
            matrix (109).
        first_threshold: Similarity above which, at all scales, training by `similarity` stops
            before its last step (109); 1: never.
        reverse: Second flow model: `inverse`, the inverse of the first (69), or `trained`
            separately (70).
        second_threshold: Similarity of restored to scaled images, 1 / (1 + mean pixel distance),
            above which, at all scales, the scaling factors are kept; otherwise `added_scales` more
            are added and training continues (110-111, 114); 0: they are always kept. Where all
            components of blocks of pixels are kept and `reverse` is `inverse`, the restored images
            equal the scaled ones and are always similar enough.
        added_scales: Scaling factors added at a time, K in paragraph 110.
        added_side: Which are added: `smaller`, halves of the smallest, or `larger`, doubles of the
            largest (112).
        max_scales: Number of scaling factors at which no more are added.
        occlusion_pattern: Test pattern drawn into the images, whose area alone is compared for
            `second_threshold`: `none`, `rectangle` or `ring` (113).
        reference_images: What restored images are compared with, the patent's second images (72).
            One or more of: `memory_bank`, at every position the nearest features of good images;
            `restored`, by one step of a flow that was trained to undo synthetic anomalies on good
            images; `nearest`, restored for each image from the likely point of the target
            distribution nearest to the predicted one; `mean`, restored from the target
            distribution's mean. Empty: `memory_bank`, and `restored` with a network or `nearest`
            with blocks of pixels.
        reference_weights: Weights of their distances, in the same order; empty: 1, but 5 for
            `restored` (4 if `combination` is `sum`), and for `nearest` beside others 0.5 with
            blocks of pixels and 0.2 with a network.
        memory_bank_size: Maximum number of images and shifted copies in the memory bank; 2 or more.
        coreset_size: Features kept of them at every position, chosen by k-center greedy; 0: all.
        tolerance: Standard deviations from the target's mean that count as likely.
        restoring_width: Channels of the flow that makes the `restored` images.
        combination: How `restored` joins the other distances d, with its weight w, the distance l
            to the restored image and the remaining time t, the share of the way back to a good part
            that is left at a position. `agreement`: d + w (d l t)^(1/3), so that what one of them
            alone sees counts little; `sum`: d + w l + t.
        time_weight: Weight of the remaining time: its exponent in `agreement`, its factor in `sum`.
        metric: Pixel distance, `euclidean` or `manhattan` (81).
        feature_weight: Weight of the distance between the features of restored and reference images
            (97) in the score map.
        pixel_weight: Weight of the distance between the images themselves. Blocks of pixels are
            images: for them it is 1 and `feature_weight` has no meaning.
        normalize_distances: Whether distances are divided by those that held-out good images have
            at the same position; see `distance_normalizer.py`.
        normalize_maps: Whether the distances of each scale are brought to [0, 1] within an image
            before they are added (73, 79). No threshold fits all such maps, so masks follow the
            rule `half`; the image score uses the distances as they are.
        scale_weighting: Weights of the distances of the scales: `equal`, as the patent adds them
            (75-78), or `area`, their numbers of positions.
        scale_weights: A weight for each scale instead.
        border_weight: Factor of scores less than `stride` px from the border of the camera image,
            or of the registered one: networks are padded with zeros there, and parts are cut off.
        map_upsampling: Interpolation of smaller distance maps to the image's size: bilinear,
            bicubic or nearest (78).
        map_downsampling: Reduction of larger maps to the image's size: average, max or nearest
            (78).
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Largest shift in px of the shifted copies.
        augmented_samples: Minimum number of images and shifted copies in the training set.
        flow_steps: Training steps of the flow.
        decoder_steps: Training steps of the inverse feature model, which pixels do not need. 0: no
            decoder, and no pictures of restored images; scores stay the same.
        restoring_pairs: Copies of good images that the flow of the `restored` images sees spoiled
            and unspoiled; fewer where their features would take more than 2 GiB.
        restoring_steps: Training steps of that flow.
        batch: Batch size.
        learning_rate: Peak learning rate of all flows.
        decoder_learning_rate: Peak learning rate of the inverse feature model.
    """

    channels: int = option(3, SCALES, choices=(1, 3))
    align: str = option('auto', SCALES, choices=ALIGNMENTS)
    scales: tuple[float, ...] = option((1.0, 0.5), SCALES, above=0)

    backbone: tuple[str, ...] = option(('efficientnet_lite0',), FEATURES)
    levels: tuple[str, ...] = option((), FEATURES)
    strides: tuple[int, ...] = option((4, 8), FEATURES, minimum=1)
    stride: int = option(8, FEATURES, choices=(2, 4, 8, 16, 32))
    aggregation: int = option(1, FEATURES, minimum=1, parity='odd')
    coarse_weight: float = option(0.3, FEATURES, above=0)
    int8: bool = option(False, FEATURES)
    components: int = option(0, FEATURES, minimum=0, parity='even')

    fusion: tuple[str, ...] = option(('coupling',), FUSION, choices=FUSIONS)
    fused_scales: tuple[float, ...] = option((), FUSION, above=0)
    upsampling: tuple[str, ...] = option(('bilinear',), FUSION, choices=UPSAMPLINGS)
    downsampling: tuple[str, ...] = option(('average',), FUSION, choices=DOWNSAMPLINGS)

    blocks: int = option(2, FLOW, minimum=0)
    hidden: int = option(32, FLOW, minimum=1)
    targets: tuple[str, ...] = option(('gaussian',), FLOW, choices=PRIORS)
    constraint: str = option('likelihood', FLOW, choices=CONSTRAINTS)
    first_threshold: float = option(1.0, FLOW, above=0, maximum=1)
    reverse: str = option('inverse', FLOW, choices=REVERSES)

    second_threshold: float = option(0.0, ADJUSTMENT, minimum=0, below=1)
    added_scales: int = option(1, ADJUSTMENT, minimum=1)
    added_side: str = option('smaller', ADJUSTMENT, choices=ADDED_SIDES)
    max_scales: int = option(6, ADJUSTMENT, minimum=1)
    occlusion_pattern: str = option('none', ADJUSTMENT, choices=OCCLUSION_PATTERNS)

    reference_images: tuple[str, ...] = option((), REFERENCE, choices=REFERENCE_IMAGES)
    reference_weights: tuple[float, ...] = option((), REFERENCE, above=0)
    # Each image in turn is compared with the others.
    memory_bank_size: int = option(300, REFERENCE, minimum=2)
    coreset_size: int = option(100, REFERENCE, minimum=0)
    tolerance: float = option(1.0, REFERENCE, minimum=0)
    restoring_width: int = option(64, REFERENCE, minimum=8)

    combination: str = option('agreement', SCORE, choices=COMBINATIONS)
    time_weight: float = option(0.5, SCORE, minimum=0)
    metric: str = option('euclidean', SCORE, choices=METRICS)
    feature_weight: float = option(1.0, SCORE, minimum=0)
    pixel_weight: float = option(0.0, SCORE, minimum=0)
    normalize_distances: bool = option(True, SCORE)
    normalize_maps: bool = option(False, SCORE)
    scale_weighting: str = option('equal', SCORE, choices=SCALE_WEIGHTINGS)
    scale_weights: tuple[float, ...] = option((), SCORE, above=0)
    border_weight: float = option(0.75, SCORE, above=0)
    map_upsampling: str = option('bilinear', SCORE, choices=UPSAMPLINGS)
    map_downsampling: str = option('average', SCORE, choices=DOWNSAMPLINGS)
    smoothing: float = option(4.0, SCORE, minimum=0)

    max_shift: int = option(4, TRAINING, minimum=0)
    augmented_samples: int = option(80, TRAINING, minimum=1)
    flow_steps: int = option(100, TRAINING, minimum=1)
    decoder_steps: int = option(100, TRAINING, minimum=0)
    restoring_pairs: int = option(240, TRAINING, minimum=1)
    restoring_steps: int = option(300, TRAINING, minimum=1)
    batch: int = option(2, TRAINING, minimum=1)
    learning_rate: float = option(1e-3, TRAINING, above=0)
    decoder_learning_rate: float = option(5e-3, TRAINING, above=0)

    def __post_init__(self) -> None:
        if not self.reference_images:
            second = 'nearest' if PIXELS in self.backbone else 'restored'
            # A model file names what it was trained with, whatever the default becomes.
            object.__setattr__(self, 'reference_images', ('memory_bank', second))
        check_ranges(self)
        check_option(
            len(self.scales) > 0 and list(self.scales) == sorted(set(self.scales), reverse=True),
            'scales',
            self.scales,
            'in descending order, such as [1.0, 0.5, 0.25]',
        )
        check_option(bool(self.strides), 'strides', self.strides, 'one or more numbers')
        check_option(
            set(self.fused_scales) <= set(self.scales),
            'fused_scales',
            self.fused_scales,
            f'a subset of the scales {list(self.scales)}',
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
            check_option(len(values) in (1, count), name, values, f'one value, or one for {each}')
        check_option(
            PIXELS not in self.backbone or set(self.backbone) == {PIXELS},
            'backbone',
            self.backbone,
            'pixels or networks, not both',
        )
        check_option(
            PIXELS not in self.backbone or not self.int8,
            'int8',
            self.int8,
            'false for pixels: only networks are quantised',
        )
        check_option(
            len(set(self.reference_images)) == len(self.reference_images),
            'reference_images',
            self.reference_images,
            f'some of {", ".join(REFERENCE_IMAGES)}, without duplicates',
        )
        check_option(
            len(self.reference_weights) in (0, len(self.reference_images)),
            'reference_weights',
            self.reference_weights,
            f'one number for each of {", ".join(self.reference_images)}',
        )
        check_option(
            len(self.scale_weights) in (0, len(self.scales)),
            'scale_weights',
            self.scale_weights,
            f'one number for each of the {len(self.scales)} scales',
        )
        check_option(
            not self.scale_weights or self.second_threshold == 0,
            'scale_weights',
            self.scale_weights,
            'empty if second_threshold, which adds scales, is above 0',
        )
        check_option(
            self.feature_weight > 0 or self.image_share > 0,
            'feature_weight',
            self.feature_weight,
            'greater than 0 if pixel_weight is 0',
        )
        check_option(
            not self.normalize_maps
            or self.combination == 'sum'
            or 'restored' not in self.reference_images,
            'normalize_maps',
            self.normalize_maps,
            'false, or `combination` sum: `agreement` compares maps in their own units',
        )
        check_option(
            self.decoder_steps > 0 or not self.compares_decoded,
            'decoder_steps',
            self.decoder_steps,
            '1 or more if pixel_weight or second_threshold is above 0: both compare decoded images',
        )

    @property
    def needs_decoder(self) -> bool:
        """Whether the inverse of the feature model has to be learned.

        Features that were fused are no longer the image's, even if they are blocks of pixels.
        """
        return PIXELS not in self.backbone or 'features' in self.fusion

    @property
    def has_decoder(self) -> bool:
        """Whether the inverse of the feature model is learned."""
        return self.needs_decoder and self.decoder_steps > 0

    @property
    def compares_decoded(self) -> bool:
        """Whether decoded images have a share in scores or scales, not in pictures alone."""
        return self.needs_decoder and (self.pixel_weight > 0 or self.second_threshold > 0)

    @property
    def image_share(self) -> float:
        """Share of the distance between images: all of it where they are the features."""
        return self.pixel_weight if self.needs_decoder else 1.0

    @property
    def shares(self) -> dict[str, float]:
        """Weight of the distance to each kind of reference images."""
        nearest = NEAREST_WEIGHT_PIXELS if PIXELS in self.backbone else NEAREST_WEIGHT_NETWORK
        kinds = self.reference_images
        if self.reference_weights:
            return dict(zip(kinds, self.reference_weights, strict=True))
        restored = RESTORED_WEIGHTS[self.combination]
        default = {'restored': restored, 'nearest': nearest if len(kinds) > 1 else 1.0}
        return {kind: default.get(kind, 1.0) for kind in kinds}

    @property
    def compared_features(self) -> tuple[str, ...]:
        """Reference images whose whitened features are compared: all but `restored`."""
        return tuple(kind for kind in self.reference_images if kind != 'restored')

    @property
    def needs_latents(self) -> bool:
        """Whether latents are used; otherwise the flow between them and the features is left out.

        The inverse of the flow restores the features that it got, whatever they are.
        """
        return self.reverse == 'trained' or not {'nearest', 'mean'}.isdisjoint(
            self.reference_images
        )

    @property
    def can_leave_out(self) -> bool:
        """Whether all that knows single images are memory banks, which can forget them."""
        kinds = {*self.reference_images}
        return 'memory_bank' in kinds and kinds <= {'memory_bank', 'restored'}

    @property
    def weights_of_scales(self) -> tuple[float, ...]:
        """Weight of each scale."""
        exponent = 2 if self.scale_weighting == 'area' else 0
        by_size = tuple((scale / self.scales[0]) ** exponent for scale in self.scales)
        return self.scale_weights or by_size

    def of_each_scale(self, name: str) -> tuple[str, ...]:
        """Return `targets` or `backbone`, one for each scale."""
        return _of_each(getattr(self, name), len(self.scales))

    def resampling(self, fusion: str) -> tuple[str, str]:
        """Upsampling and downsampling of one of `FUSIONS`."""
        index, count = self.fusion.index(fusion), len(self.fusion)
        return _of_each(self.upsampling, count)[index], _of_each(self.downsampling, count)[index]

    def with_scales(self, added: Sequence[float]) -> 'RestorationConfig':
        """Add scaling factors that are all smaller or all larger than those there are.

        Options that differ between scales take the value of the nearest scale.
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
