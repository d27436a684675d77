# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Multi-scale restoration with a flow model (US 2025/0265693 A1)."""

from collections.abc import Sequence
import copy
from dataclasses import dataclass
import functools
import itertools
import math
from pathlib import Path
from typing import Any, cast, ClassVar, NamedTuple

from flow_anomaly_ros.detectors.base import Detector, DetectorOutput
from flow_anomaly_ros.detectors.restoration.config import PIXELS, RestorationConfig
from flow_anomaly_ros.detectors.restoration.decoder import Decoder
from flow_anomaly_ros.detectors.restoration.distance_normalizer import DistanceNormalizer
from flow_anomaly_ros.detectors.restoration.latent_gaussian import LatentGaussian
from flow_anomaly_ros.detectors.restoration.memory_bank import MemoryBank
from flow_anomaly_ros.detectors.restoration.pixel_blocks import PixelBlocks
from flow_anomaly_ros.detectors.restoration.registration import Registration
from flow_anomaly_ros.detectors.restoration.restoring_flow import (
    Level,
    RestoringFlow,
    RestoringOutput,
)
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.coupling import CouplingFlow
from flow_anomaly_ros.layers.fusion import adjacent_sources, fixed_sources, Fusion, FusionNetworks
from flow_anomaly_ros.layers.resample import resize, resize_and_smooth, size_of
from flow_anomaly_ros.layers.whitening import Whitening
import torch
from torch import nn, Tensor

BACKBONE_COMPONENTS = 64
# The memory bank is searched in this share of the principal components, which hold nearly all of
# the variance. On synthetic anomalies no accuracy figure changed by more than 0.2 %.
SEARCHED_SHARE = 0.5


@dataclass(frozen=True)
class Restoration:
    """The images a score map is made from, one of each list per scale.

    Attributes:
        scaled: The N scaled images, BxCxHixWi in [0, 1], of registered parts.
        restored: Images restored from the predicted distributions, same sizes.
        reference: The images that they are compared with, same sizes, by kind of reference images.
    """

    scaled: list[Tensor]
    restored: list[Tensor]
    reference: dict[str, list[Tensor]]


class _Term(NamedTuple):
    """A map that the score map is a sum of.

    Attributes:
        map: Bx1xhxw, >= 0.
        weight: Its weight.
        offset: (down, right) in px from where it belongs to where it would be drawn.
    """

    map: Tensor
    weight: float
    offset: tuple[float, float] = (0.0, 0.0)


class RestorationDetector(Detector):
    """Compare restored images with images restored from the distribution good parts follow.

    images -> N scaled images -> features -> first flow model -> predicted distributions
    -> second flow model (the reverse of the first) -> inverse feature model -> restored images;
    the target distribution goes the same way back to the reference images (the patent's second
    images); pixel distances between both, summed over the scales, are the score map.

    The flow is trained towards `targets` of the configuration; the target distribution is what the
    good parts' latents then follow at every position and scale (paragraph 72).
    """

    stages: ClassVar = {
        'align': ('registration.forward', 'registration.weigh_border', 'registration.undo'),
        'features': ('levels', 'whiten'),
        'flow': ('restored_features', 'pack', 'restoration_maps'),
        'restore': ('reference_features',),
    }

    def __init__(self, config: RestorationConfig) -> None:
        super().__init__(config)
        self.registration = Registration()
        # A ModuleList does not tell type checkers what it holds.
        self.features = cast(
            Sequence[PixelBlocks | Backbone],
            nn.ModuleList(
                PixelBlocks(config.channels, config.stride)
                if name == PIXELS
                else Backbone(
                    name,
                    config.levels,
                    config.stride,
                    config.aggregation,
                    config.coarse_weight,
                    config.strides,
                    int8=config.int8,
                )
                for name in config.backbone
            ),
        )
        self._build()

    def _build(self) -> None:
        """Make what there is one of per scale, and the flow, as the configuration wants it."""
        config = self.config
        scales = len(config.scales)
        channels = [features.channels for features in self.features_of_scales]
        if 'features' in config.fusion and len(set(channels)) > 1:
            msg = (
                f'backbones with {", ".join(map(str, channels))} channels cannot be fused: remove '
                '`features` from fusion or choose levels with equal numbers of channels'
            )
            raise ValueError(msg)
        default = min(channels) if PIXELS in config.backbone else BACKBONE_COMPONENTS
        components = min(config.components or default, *channels)
        components -= components % 2
        self.whitenings = cast(
            Sequence[Whitening], nn.ModuleList(Whitening(count, components) for count in channels)
        )
        fused = [config.scales.index(scale) for scale in config.fused_scales]
        sources = fixed_sources(scales, fused) if fused else adjacent_sources(scales)
        self.fusions = {kind: Fusion(sources, *config.resampling(kind)) for kind in config.fusion}
        self.restoring_flow = (
            self._make_restoring_flow() if 'restored' in config.reference_images else None
        )
        self.flow = self._make_flow(components)
        self.reverse_flow = None
        if config.reverse == 'trained':
            self.reverse_flow = self._make_flow(components)
            self.reverse_flow.copy_permutations(self.flow)
        self.decoders = nn.ModuleList(
            Decoder(components, config.channels, config.stride)
            for _ in range(scales if config.has_decoder else 0)
        )
        self.latent_gaussians = cast(
            Sequence[LatentGaussian],
            nn.ModuleList(
                LatentGaussian(components) for _ in range(scales if config.needs_latents else 0)
            ),
        )
        self.memory_banks = cast(
            Sequence[MemoryBank],
            nn.ModuleList(
                MemoryBank(components, searched=math.ceil(SEARCHED_SHARE * components))
                for _ in range(scales)
            ),
        )
        self.distance_normalizers = cast(
            Sequence[DistanceNormalizer], nn.ModuleList(DistanceNormalizer() for _ in range(scales))
        )

    def _make_flow(self, channels: int) -> CouplingFlow:
        scales, hidden = len(self.config.scales), self.config.hidden
        fusion = self.fusions.get('coupling', Fusion(((),) * scales))
        return CouplingFlow(
            channels,
            self.config.blocks if self.config.needs_latents else 0,
            lambda inputs, outputs: FusionNetworks(scales, inputs, hidden, outputs, fusion),
        )

    def _make_restoring_flow(self) -> RestoringFlow:
        """Make the flow, which sees the levels of all scales in units of the largest one's grid."""
        config = self.config
        levels = [
            # Relative to the first scale, a level of a small image is that much coarser.
            Level(channels, is_fine=2 * stride * config.scales[0] <= config.stride * scale)
            for features, scale in zip(self.features_of_scales, config.scales, strict=True)
            for channels, stride in zip(
                features.level_channels, features.level_strides, strict=True
            )
        ]
        conditions = len(config.scales) if config.compared_features else 0
        return RestoringFlow(levels, conditions, config.restoring_width)

    @property
    def has_comparable_maps(self) -> bool:
        """See `Detector.has_comparable_maps`."""
        return not self.config.normalize_maps

    @property
    def features_of_scales(self) -> list[PixelBlocks | Backbone]:
        """Feature model of each scale: one for all in turn, or one for each (94)."""
        several = len(self.features) > 1
        return [self.features[i if several else 0] for i in range(len(self.config.scales))]

    def add_scales(self, added: Sequence[float]) -> None:
        """Add scaling factors and keep what was learned of the others (110).

        Args:
            added: All smaller or all larger than those there are.
        """
        old_config, old_flow, old_reverse = self.config, self.flow, self.reverse_flow
        old_decoders = self.decoders
        self.config = old_config.with_scales(added)
        kept = [self.config.scales.index(scale) for scale in old_config.scales]
        if len(self.features) > 1:
            nearest = [
                min(range(len(kept)), key=lambda i: abs(kept[i] - new))
                for new in range(len(self.config.scales))
            ]
            self.features = cast(
                Sequence[PixelBlocks | Backbone],
                nn.ModuleList(copy.deepcopy(self.features[i]) for i in nearest),
            )
        device = self.registration.reference.device
        self._build()
        self.to(device)
        _take_over(self.flow, old_flow, kept)
        if self.reverse_flow is not None and old_reverse is not None:
            _take_over(self.reverse_flow, old_reverse, kept)
        for new, decoder in zip(kept, old_decoders, strict=False):
            self.decoders[new].load_state_dict(decoder.state_dict())

    def load_pretrained(self, weights: Path | None) -> None:
        """Load the weights of the networks that extract features; pixels have none.

        Args:
            weights: A file; for several networks a folder of files named after them; None: those
                of a pip package, or they are downloaded.
        """
        if weights and weights.is_file() and len(set(self.config.backbone)) > 1:
            msg = f'{weights} is one file for several backbones: give a folder with one for each'
            raise ValueError(msg)
        for features in self.features:
            if isinstance(features, Backbone):
                features.load_pretrained(weights)

    def scale_images(self, images: Tensor) -> list[Tensor]:
        """Make the N images of paragraph 66 from BxCxHxW images."""
        height, width = images.shape[-2:]
        least = self.config.stride
        scaled = [
            resize(images, (max(least, round(height * s)), max(least, round(width * s))))
            for s in self.config.scales
        ]
        fusion = self.fusions.get('images')
        if fusion is None:
            return scaled
        # The mean of the fused images is an image again.
        return [
            fused / (1 + len(sources))
            for fused, sources in zip(fusion(scaled), fusion.sources, strict=True)
        ]

    def extract(self, scaled: list[Tensor]) -> list[Tensor]:
        """Whitened features of the scaled images, BxKxhixwi."""
        return self.whiten(self.levels(scaled), [size_of(x) for x in scaled])

    def levels(self, scaled: list[Tensor]) -> list[list[Tensor]]:
        """Levels of features of each scaled image, as its feature model extracts them."""
        return [
            features.extract(x) for features, x in zip(self.features_of_scales, scaled, strict=True)
        ]

    def merge(self, levels: list[list[Tensor]], sizes: list[tuple[int, int]]) -> list[Tensor]:
        """One map of features per scale before whitening, fused if features are (88-90)."""
        merged = [
            features.merge(x, size)
            for features, x, size in zip(self.features_of_scales, levels, sizes, strict=True)
        ]
        return self.fusions['features'](merged) if 'features' in self.fusions else merged

    def whiten(self, levels: list[list[Tensor]], sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Whitened features of levels, BxKxhixwi per scale.

        Args:
            levels: Of each scale.
            sizes: (height, width) of the scaled images in px.
        """
        return [
            whitening(x)
            for whitening, x in zip(self.whitenings, self.merge(levels, sizes), strict=True)
        ]

    def raw_features(self, scaled: list[Tensor]) -> list[Tensor]:
        """Features of the scaled images before whitening."""
        return self.merge(self.levels(scaled), [size_of(x) for x in scaled])

    def grid(self, scaled: list[Tensor]) -> tuple[int, int]:
        """(rows, columns) of what the restoring flow sees of scaled images."""
        return self.features_of_scales[0].grid(size_of(scaled[0]))

    def reference_features(
        self, features: list[Tensor], latents: list[Tensor]
    ) -> list[list[Tensor]]:
        """Features of the reference images, for each of `compared_features` one map per scale.

        What good parts could look like is kept, and what they could not is replaced; with `mean`
        every image has the same reference.

        Args:
            features: Of the restored images, BxKxhixwi per scale.
            latents: That they were restored from, same shapes.
        """
        reference = []
        for kind in self.config.compared_features:
            if kind == 'memory_bank':
                reference.append(
                    [
                        bank(x * whitening.unit) / whitening.unit
                        for bank, whitening, x in zip(
                            self.memory_banks, self.whitenings, features, strict=True
                        )
                    ]
                )
            elif kind == 'nearest':
                tolerance = self.config.tolerance
                likely = [
                    gaussian.nearest(z, tolerance)
                    for gaussian, z in zip(self.latent_gaussians, latents, strict=True)
                ]
                reference.append(self.reverse(likely))
            else:
                means = [
                    gaussian.mean.expand_as(z)
                    for gaussian, z in zip(self.latent_gaussians, latents, strict=True)
                ]
                reference.append(self.reverse(means))
        return reference

    def reverse(self, latents: list[Tensor]) -> list[Tensor]:
        """Second flow model: latents to whitened features (69-70)."""
        return (self.reverse_flow or self.flow).inverse(latents)

    def decode(self, features: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Whitened features to images of the given sizes: paragraph 97."""
        if self.config.needs_decoder:
            return [
                decoder(x, size)
                for decoder, x, size in zip(self.decoders, features, sizes, strict=True)
            ]
        return [
            cast(PixelBlocks, blocks).inverse(whitening.inverse(x), size)
            for blocks, whitening, x, size in zip(
                self.features_of_scales, self.whitenings, features, sizes, strict=True
            )
        ]

    def restore(self, images: Tensor) -> Restoration:
        """Restore images of all scales, and what they are compared with.

        Args:
            images: BxCxHxW float32 in [0, 1].
        """
        scaled = self.scale_images(self.registration(images)[0])
        sizes = [size_of(x) for x in scaled]
        levels = self.levels(scaled)
        restored, latents = self.restored_features(self.whiten(levels, sizes))
        references = self.reference_features(restored, latents)
        reference = dict(zip(self.config.compared_features, references, strict=True))
        if self.restoring_flow is not None:
            distances = self.normalized_distances(levels, sizes)
            packed = self.pack(levels, scaled)
            velocity, _ = self.run_restoring_flow(packed, distances)
            reference['restored'] = self.whiten(self.unpack(packed + velocity, levels), sizes)
        return Restoration(
            scaled=scaled,
            restored=self.decode(restored, sizes),
            reference={
                kind: self.decode(reference[kind], sizes) for kind in self.config.reference_images
            },
        )

    def pack(self, levels: list[list[Tensor]], scaled: list[Tensor]) -> Tensor:
        """Levels of the scaled images as the restoring flow sees them, BxCxhxw."""
        assert self.restoring_flow is not None
        return self.restoring_flow.pack(list(itertools.chain(*levels)), self.grid(scaled))

    def unpack(self, packed: Tensor, like: list[list[Tensor]]) -> list[list[Tensor]]:
        """Return what `pack` made to levels of the sizes of others."""
        assert self.restoring_flow is not None
        sizes = [size_of(level) for level in itertools.chain(*like)]
        levels = iter(self.restoring_flow.unpack(packed, sizes))
        return [[next(levels) for _ in of_scale] for of_scale in like]

    def run_restoring_flow(self, packed: Tensor, distances: list[Tensor]) -> RestoringOutput:
        """Estimate the way from images to good parts.

        Args:
            packed: Of `pack`, BxCxhxw.
            distances: Of `normalized_distances`, Bx1xhixwi per scale; none for a flow that restores
                without any.
        """
        flow = self.restoring_flow
        assert flow is not None
        condition = flow.condition(distances, size_of(packed)) if distances else None
        # `len` would fix the batch size of an exported graph.
        return flow(packed, packed.new_zeros(packed.shape[0]), condition)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Leave out what files of format 7 and earlier have and nothing uses."""
        if not self.config.needs_latents:
            for name in [*state]:
                if name.startswith((f'{prefix}flow.', f'{prefix}latent_gaussians.')):
                    del state[name]
        super()._load_from_state_dict(state, prefix, *args)

    def restored_features(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Features behind the restored images, and the latents they were restored from.

        The reverse of the first flow model undoes it exactly: what it restores are the features
        that were extracted.
        """
        latents = self.flow.latents(features)
        return (features if self.reverse_flow is None else self.reverse(latents)), latents

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance per position of two BxCxHxW maps, as Bx1xHxW, per channel (paragraph 81)."""
        difference = first - second
        if self.config.metric == 'manhattan':
            return difference.abs().mean(1, keepdim=True)
        return difference.square().mean(1, keepdim=True).sqrt()

    def forward(self, images: Tensor, classes: Tensor | None = None) -> DetectorOutput:
        """Score images; see `Detector.forward`."""
        size = size_of(images)
        registered, poses = self.registration(images)
        scaled = self.scale_images(registered)
        levels = self.levels(scaled)
        maps = self.normalized_distances(levels, [size_of(x) for x in scaled])
        weights, offsets = self.config.weights_of_scales, self._offsets_of_scales()
        scales = zip(maps, weights, offsets, strict=True) if maps else []
        terms = [_Term(x, weight, offset) for x, weight, offset in scales]
        if self.config.image_share > 0:
            # Distances of images lie where they belong.
            terms = [_Term(x, weight) for x, weight, _ in terms]
        if self.restoring_flow is not None:
            length, time = self.restoration_maps(self.pack(levels, scaled), maps)
            # The time was trained to lie where images are spoiled.
            estimated = (
                _Term(length, self.config.shares['restored'], self._offset_of_levels()),
                _Term(time, self.config.time_weight),
            )
            terms = (
                [*terms, *estimated]
                if self.config.combination == 'sum'
                else [self._with_agreement(terms, *estimated, size)]
            )
        score_map = self._summed(terms, size, poses)
        image_score = score_map.amax(dim=(1, 2, 3))
        if self.config.normalize_maps:
            terms = [term._replace(map=min_max(term.map)) for term in terms]
            score_map = self._summed(terms, size, poses)
        return DetectorOutput(score_map[:, 0], image_score)

    def _offsets_of_scales(self) -> list[tuple[float, float]]:
        """(down, right) offset of the features of each scale, in px of the images."""
        pairs = zip(self.features_of_scales, self.config.scales, strict=True)
        return [(each.offset[0] / scale, each.offset[1] / scale) for each, scale in pairs]

    def _offset_of_levels(self) -> tuple[float, float]:
        """Mean (down, right) offset of the levels of all scales, in px of the images."""
        offsets = [
            (down / scale, right / scale)
            for features, scale in zip(self.features_of_scales, self.config.scales, strict=True)
            for down, right in features.level_offsets
        ]
        down, right = (sum(along) / len(offsets) for along in zip(*offsets, strict=True))
        return down, right

    def normalized_distances(
        self, levels: list[list[Tensor]], sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        """Distances from all reference images but `restored`, relative to those of good parts.

        Args:
            levels: Of each scale.
            sizes: (height, width) of the scaled images.

        Returns:
            One Bx1xhixwi map per scale; none if there are no such reference images.
        """
        if not self.config.compared_features:
            return []
        distances = self.distances(*self.restored_features(self.whiten(levels, sizes)), sizes)
        if not self.config.normalize_distances:
            return distances
        return [
            normalizer(x)
            for normalizer, x in zip(self.distance_normalizers, distances, strict=True)
        ]

    def restoration_maps(self, packed: Tensor, distances: list[Tensor]) -> list[Tensor]:
        """Make maps of what the restoring flow estimates; see `run_restoring_flow`.

        Returns:
            The distance of features and restored features over all levels, Bx1xhxw, and the square
            root of the remaining time in [0, 1], Bx1x2hx2w.
        """
        flow = self.restoring_flow
        assert flow is not None
        output = self.run_restoring_flow(packed, distances)
        of_levels = torch.cat([x.square().mean(1, True) for x in flow.split(output.velocity)], 1)
        return [of_levels.mean(1, True).sqrt(), output.time_logits.sigmoid().sqrt()]

    def distances(
        self, restored: list[Tensor], latents: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        """Weighted distances of restored and reference images, one Bx1xhixwi map per scale.

        Args:
            restored: Features behind the restored images.
            latents: Latents that they were restored from.
            sizes: (height, width) of the scaled images.
        """
        config = self.config
        references = self.reference_features(restored, latents)
        weights = [config.shares[kind] for kind in config.compared_features]
        totals: list[Tensor | None] = [None] * len(sizes)

        def add(weight: float, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
            for index, (x, y) in enumerate(zip(first, second, strict=True)):
                distance, total = weight * self.distance(x, y), totals[index]
                if total is not None and size_of(total) != size_of(distance):
                    # Images come first and are the larger ones.
                    offset = self.features_of_scales[index].offset
                    distance = resize_and_smooth(distance, size_of(total), 0, offset=offset)
                totals[index] = distance if total is None else total + distance

        if config.image_share > 0:
            restored_images = self.decode(restored, sizes)
            for weight, reference in zip(weights, references, strict=True):
                add(config.image_share * weight, restored_images, self.decode(reference, sizes))
        if config.needs_decoder and config.feature_weight > 0:
            units = [whitening.unit for whitening in self.whitenings]
            features = [x * unit for x, unit in zip(restored, units, strict=True)]
            for weight, reference in zip(weights, references, strict=True):
                others = [x * unit for x, unit in zip(reference, units, strict=True)]
                add(config.feature_weight * weight, features, others)
        return cast(list[Tensor], totals)

    def _with_agreement(
        self, terms: list[_Term], length: _Term, time: _Term, size: tuple[int, int]
    ) -> _Term:
        """Add the geometric mean of all maps to the sum of `terms`, on the finest of their grids.

        Args:
            terms: Of the other reference images; may be none.
            length: Of the distance to the restored image.
            time: Of the remaining time.
            size: (height, width) of the images in px.
        """
        config = self.config
        grid = max((size_of(term.map) for term in [*terms, length, time]), key=math.prod)

        def on_grid(term: _Term) -> Tensor:
            down, right = (
                offset * new / old for offset, new, old in zip(term.offset, grid, size, strict=True)
            )
            options = 0, config.map_upsampling, config.map_downsampling
            resized = resize_and_smooth(term.map, grid, *options, offset=(down, right))
            # Bicubic interpolation overshoots.
            return resized.clamp(min=0)

        others = [term.weight * on_grid(term) for term in terms]
        factors = [on_grid(length), on_grid(time) ** config.time_weight]
        if others:
            factors.append(functools.reduce(torch.add, others))
        exponent = 1 / (len(factors) - 1 + config.time_weight)
        agreement = functools.reduce(torch.mul, factors) ** exponent
        total = functools.reduce(torch.add, [length.weight * agreement, *others])
        return _Term(total, 1.0)

    def _summed(self, terms: list[_Term], size: tuple[int, int], poses: Tensor | None) -> Tensor:
        """Bring weighted maps to one size, smooth and add them (75-78).

        Args:
            terms: The maps.
            size: (height, width) of the images in px.
            poses: Those of the registered images; None without registration.

        Returns:
            Bx1xHxW in the view of the camera images.
        """
        config = self.config
        options = config.smoothing, config.map_upsampling, config.map_downsampling
        resized = [
            resize_and_smooth(term.weight * term.map, size, *options, offset=term.offset)
            for term in terms
        ]
        total = functools.reduce(torch.add, resized)
        if config.border_weight < 1:
            total = self.registration.weigh_border(
                total, poses, config.stride, config.border_weight
            )
        return self.registration.undo(total, poses)

    def explain(self, images: Tensor, classes: Tensor | None = None) -> list[dict[str, Tensor]]:
        """A row per scale: the scaled image, the restored one and the reference images.

        No rows without a decoder, which makes images of features.
        """
        if self.config.needs_decoder and not self.config.has_decoder:
            return []
        restoration = self.restore(images)
        pose = ', registered' if self.registration.is_active else ''
        return [
            {
                f'scale {scale:g}{pose}': scaled,
                'restored': restored,
                **{
                    f'reference: {kind}': images_of_kind[index]
                    for kind, images_of_kind in restoration.reference.items()
                },
            }
            for index, (scale, scaled, restored) in enumerate(
                zip(self.config.scales, restoration.scaled, restoration.restored, strict=True)
            )
        ]


def min_max(maps: Tensor) -> Tensor:
    """Bring each of Bx1xHxW maps to 0..1 (79); one that is the same everywhere becomes 0."""
    least, most = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - least) / (most - least).clamp(min=torch.finfo(maps.dtype).tiny)


def _take_over(flow: CouplingFlow, other: CouplingFlow, scales: Sequence[int]) -> None:
    """Take over what a flow of fewer scales has learned; `scales` is where each of them is."""
    flow.copy_permutations(other)
    for mine, theirs in zip(flow.blocks, other.blocks, strict=True):
        for own, old in ((mine.first, theirs.first), (mine.second, theirs.second)):
            cast(FusionNetworks, own).take(cast(FusionNetworks, old), scales)
