# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pretrained torchvision and timm networks as frozen feature extractors."""

from pathlib import Path
from typing import Any

from flow_anomaly_ros.layers.backbone_weights import (
    download_weights,
    find_weights,
    load_weights,
    packaged_weights,
    read_weights,
)
from flow_anomaly_ros.layers.feature_extraction import (
    BackboneError,
    build_network,
    create_feature_extractor,
    default_levels,
    fuse_batch_norms,
    probe,
    PROBE_SIDE_PX,
)
from flow_anomaly_ros.layers.inference import channels_last
from flow_anomaly_ros.layers.level_offsets import measure_level_offsets
from flow_anomaly_ros.layers.packaged_networks import PACKAGED_NETWORKS, rename_entries
from flow_anomaly_ros.layers.quantisation import is_quantised, quantise
from flow_anomaly_ros.layers.resample import average_and_resize, size_of
from flow_anomaly_ros.layers.transformer import TokenMaps
import torch
from torch import nn, Tensor
from torch.fx import GraphModule
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Without explicit levels, the last level of each of these strides is used.
DEFAULT_STRIDES = (4, 8, 16)


class Backbone(nn.Module):
    """Several levels of a classification network, concatenated to one map at a common stride.

    Args:
        name: Name of a torchvision model, for example `mobilenet_v2`, `timm/` followed by the name
            of a timm model, for example `timm/convnext_atto`, or one of `PACKAGED_NETWORKS`.
        levels: Graph nodes of a convolutional network, for example `('features.3', 'features.6')`,
            or blocks of a transformer, for example `('blocks.7',)`. Empty: the last node of each
            of `default_strides`, or the block at two thirds of the transformer's depth.
        stride: Stride in px of the map that all levels are resized to.
        aggregation: Side of the window that each level is averaged over, in positions, odd;
            1: no averaging.
        coarse_weight: Factor of the levels that are coarser than the map.
        default_strides: Strides in px of the levels that are used if `levels` is empty.
        int8: Whether convolutions are quantised to 8 bits, see `layers/quantisation.py`. The range
            of their inputs is calibrated on images of good parts, within `observing`.

    Attributes:
        level_channels: Number of channels of each level.
        level_strides: Stride of each level in px; for transformers `stride`.
        channels: Sum of `level_channels`.
        level_offsets: (down, right) offset of each level in px, 0 until `fit_level_offsets`; see
            `layers/level_offsets.py`.

    Raises:
        BackboneError: The name or a level is unknown, or the network cannot be quantised.
    """

    mean: Tensor
    std: Tensor
    measured_offsets: Tensor

    def __init__(
        self,
        name: str,
        levels: tuple[str, ...] = (),
        stride: int = 8,
        aggregation: int = 1,
        coarse_weight: float = 1.0,
        default_strides: tuple[int, ...] = DEFAULT_STRIDES,
        int8: bool = False,
    ) -> None:
        super().__init__()
        network = build_network(name)
        self.levels = tuple(levels) or default_levels(network, name, default_strides)
        extractor = create_feature_extractor(network, name, self.levels)
        self.name = name
        self.stride = stride
        self.aggregation = aggregation
        self.coarse_weight = coarse_weight
        # timm models name the statistics they were trained with; torchvision's all use ImageNet's.
        pretrained_cfg = getattr(network, 'pretrained_cfg', {})
        for statistic, default in (('mean', IMAGENET_MEAN), ('std', IMAGENET_STD)):
            value = torch.tensor(pretrained_cfg.get(statistic, default))
            self.register_buffer(statistic, value[:, None, None])
        self.int8 = int8
        self.extractor = _quantise(extractor, name) if int8 else extractor
        self.eval()
        outputs = self._probe()
        self.level_channels = [x.shape[1] for x in outputs]
        # A transformer has the same patches for images of any size.
        has_tokens = isinstance(extractor, TokenMaps)
        self.level_strides = [
            stride if has_tokens else PROBE_SIDE_PX // x.shape[-1] for x in outputs
        ]
        self.channels = sum(self.level_channels)
        self.level_offsets = [(0.0, 0.0)] * len(outputs)
        self.register_buffer('measured_offsets', torch.zeros(len(outputs), 2))

    def _probe(self) -> list[Tensor]:
        outputs = probe(self.extractor, self.name)
        for level, output in outputs.items():
            if not isinstance(output, Tensor) or output.dim() != 4:
                msg = (
                    f'level {level} of backbone {self.name} is not a 4-D feature map: '
                    'choose another level'
                )
                raise BackboneError(msg)
        return list(outputs.values())

    def train(self, mode: bool = True) -> 'Backbone':
        """Stay in evaluation mode: a frozen network keeps its batch statistics."""
        return super().train(mode=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Return to evaluation mode: torch.fx leaves the copy of a traced network in training."""
        super().__setstate__(state)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Extract features.

        Args:
            images: Bx3xHxW colour or Bx1xHxW grey images in [0, 1].

        Returns:
            Bx(channels)xceil(H/stride)xceil(W/stride).
        """
        return self.merge(self.extract(images), size_of(images))

    @property
    def offset(self) -> tuple[float, float]:
        """(down, right) offset of the features of `forward` in px.

        That of the level with the nearest stride, which stays as it is: moved by a fraction of a
        position it would be blurred.
        """
        strides = self.level_strides
        nearest = min(range(len(strides)), key=lambda i: abs(strides[i] - self.stride))
        return self.level_offsets[nearest]

    def fit_level_offsets(self, images: Tensor) -> None:
        """Measure the offsets of the levels.

        Args:
            images: NxCxHxW in [0, 1].
        """
        # The tokens of a transformer are the blocks of pixels that they stand for.
        if not isinstance(self.extractor, TokenMaps):
            measured = measure_level_offsets(self.extract, images, self.level_strides)
            # Rounded: models of one network then share their resampling matrices.
            self.measured_offsets.copy_((16 * measured).round() / 16)
            self._read_offsets()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        # Files of format 8 and earlier have none: their maps are drawn as they were.
        name = f'{prefix}measured_offsets'
        state.setdefault(name, torch.zeros_like(self.measured_offsets))
        super()._load_from_state_dict(state, prefix, *args)
        self._read_offsets()

    def _read_offsets(self) -> None:
        # Plain numbers: exported graphs cannot depend on the values of tensors.
        if self.measured_offsets.is_meta:
            return
        self.level_offsets = [(down, right) for down, right in self.measured_offsets.tolist()]

    def merge(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Average the levels over their neighbourhood and bring them to one grid.

        Args:
            levels: Of `extract`.
            size: (height, width) of the images in px.

        Returns:
            The features of `forward`.
        """
        grid = self.grid(size)
        return torch.cat(
            [
                self._to_grid(level, grid, offset)
                for level, offset in zip(levels, self.level_offsets, strict=True)
            ],
            dim=1,
        )

    def extract(self, images: Tensor) -> list[Tensor]:
        """Extract the levels at their own resolutions.

        Args:
            images: Bx3xHxW colour or Bx1xHxW grey images in [0, 1].

        Returns:
            One BxCixhixwi map per level.
        """
        if images.shape[1] == 1:
            images = images.repeat(1, 3, 1, 1)
        images = channels_last(self._normalise(images))
        return list(self.extractor(images).values())

    def _normalise(self, images: Tensor) -> Tensor:
        # One batch normalisation takes half the time of a subtraction and a division.
        mean, variance = self.mean.flatten(), self.std.flatten().square()
        return functional.batch_norm(images, mean, variance, eps=0.0)

    def fuse_for_inference(self) -> None:
        """Fuse conv+bn; see `inference.fuse_for_inference`."""
        # Quantised convolutions were fused before they were quantised.
        if not self.int8:
            self.extractor = fuse_batch_norms(self.extractor)

    def _to_grid(self, level: Tensor, size: tuple[int, int], offset: tuple[float, float]) -> Tensor:
        """Average a level, bring it to the common grid, and move it to where the others lie."""
        down, right = ((x - y) / self.stride for x, y in zip(offset, self.offset, strict=True))
        resized = average_and_resize(level, size, self.aggregation, (down, right))
        is_coarse = min(size_of(level)) < min(size)
        return self.coarse_weight * resized if is_coarse else resized

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the features of an image of the given (height, width) in px."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def load_pretrained(self, weights: Path | None) -> None:
        """Load ImageNet weights from a file or a pip package, or download them.

        Args:
            weights: A .safetensors file or a PyTorch checkpoint with the key names of torchvision
                or timm, or a folder with a file named after the network, such as
                mobilenet_v2.safetensors. Entries behind the deepest level are not needed.
                None: the installed package of `PACKAGED_NETWORKS`, others are downloaded.

        Raises:
            BackboneError: The file or package is missing or unreadable, the weights do not fit, or
                the download failed.
        """
        if weights is None and self.name in PACKAGED_NETWORKS:
            weights = packaged_weights(self.name)
        if weights is None:
            state = download_weights(self.name)
        else:
            weights = find_weights(Path(weights), self.name)
            state = read_weights(weights)
        if self.name in PACKAGED_NETWORKS:
            state = rename_entries(state, build_network(self.name).state_dict())
        extractor = self.extractor
        if self.int8:
            # Weights fit the network as it was before fusing and quantisation.
            extractor = create_feature_extractor(build_network(self.name), self.name, self.levels)
        network = extractor.network if isinstance(extractor, TokenMaps) else extractor
        load_weights(network, state, self.name, weights)
        if self.int8:
            self.extractor = _quantise(extractor.to(self.mean.device), self.name)


def _quantise(extractor: nn.Module, name: str) -> nn.Module:
    """Fuse conv+bn and quantise the convolutions.

    Raises:
        BackboneError: The network has no convolution that can be quantised.
    """
    fused = fuse_batch_norms(extractor)
    if isinstance(fused, GraphModule):
        quantise(fused)
    if not is_quantised(fused):
        msg = (
            f'backbone {name} cannot be quantised to int8: '
            'choose a convolutional network such as mobilenet_v2'
        )
        raise BackboneError(msg)
    return fused
