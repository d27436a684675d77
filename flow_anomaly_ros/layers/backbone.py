# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pretrained torchvision and timm networks as frozen feature extractors."""

import contextlib
import importlib
import math
from pathlib import Path
import sys
import threading
from types import ModuleType
from typing import Any
import warnings

from flow_anomaly_ros.layers.inference import channels_last
from flow_anomaly_ros.layers.quantisation import is_quantised, quantise
from flow_anomaly_ros.layers.resample import average_at, size_of
from flow_anomaly_ros.layers.transformer import default_level, is_transformer, TokenMaps
from safetensors.torch import load_file
import torch
from torch import nn, Tensor
from torch.fx import GraphModule
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError
from torch.nn import functional
import torchvision
from torchvision.models import feature_extraction

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Names of timm's networks begin with this: some of them are torchvision's too.
TIMM = 'timm/'
# Held while a network is traced: torch.fx changes how all modules of the process are called, also
# those of a detector that goes on inspecting in another thread, which has to wait.
TRACING = threading.Lock()
# Levels of a backbone that are used when none are named: the last one of each of these strides.
DEFAULT_STRIDES = (4, 8, 16)
# Side in px of the empty image that a network is probed with.
PROBE_SIDE_PX = 128
# Modules that hold a network's top-level blocks instead of being one.
CONTAINERS = ('features', 'trunk_output', 'blocks', 'stages')
# Endings of the weights files that are looked for in a folder.
SUFFIXES = ('.safetensors', '.pth', '.pt')


class BackboneError(ValueError):
    """A backbone or its weights cannot be used; the message is one line."""


class Backbone(nn.Module):
    """Several levels of a classification network, as one map at a common stride.

    Args:
        name: torchvision model name, for example `mobilenet_v2`, or `timm/` and that of a timm
            model, for example `timm/convnext_atto`.
        levels: Graph nodes to take, for example `('features.3', 'features.6')`, of a transformer
            its blocks, for example `('blocks.7',)`; empty: the last node of each of
            `default_strides`, or the block at two thirds of a transformer's depth.
        stride: Stride in px of the map that all levels are resized to.
        aggregation: Each level is averaged over this many positions in both directions, odd; 1
            leaves it as it is.
        coarse_weight: Factor of the levels that are coarser than the map.
        default_strides: Strides in px of the levels that are used when none are named.
        int8: Whether it computes with 8-bit whole numbers: see `layers/quantisation.py`. Where they
            lie is learned from images of good parts, by those it sees while `observing`.

    Attributes:
        level_channels: Channels of each level.
        channels: Their sum.

    Raises:
        BackboneError: Unknown name or level, or a network that has no int8.
    """

    mean: Tensor
    std: Tensor

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
        network = _build(name)
        self.levels = tuple(levels) or _last_levels(network, name, default_strides)
        extractor = _take_apart(network, name, self.levels)
        self.name = name
        self.stride = stride
        self.aggregation = aggregation
        self.coarse_weight = coarse_weight
        # timm's networks say how their images were normalised, torchvision's all agree.
        about = getattr(network, 'pretrained_cfg', {})
        for statistic, default in (('mean', IMAGENET_MEAN), ('std', IMAGENET_STD)):
            value = torch.tensor(about.get(statistic, default))
            self.register_buffer(statistic, value[:, None, None])
        self.int8 = int8
        self.extractor = _quantised(extractor, name) if int8 else extractor
        self.eval()
        self.level_channels = self._channels_of_levels()
        self.channels = sum(self.level_channels)

    def _channels_of_levels(self) -> list[int]:
        try:
            with torch.no_grad():
                outputs = self.extractor(torch.zeros(1, 3, PROBE_SIDE_PX, PROBE_SIDE_PX))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise _not_convolutional(self.name, error) from error
        for level, output in outputs.items():
            if not isinstance(output, Tensor) or output.dim() != 4:
                msg = f'level {level} of backbone {self.name} is no feature map: name others'
                raise BackboneError(msg)
        return [output.shape[1] for output in outputs.values()]

    def train(self, mode: bool = True) -> 'Backbone':
        """Stay in evaluation mode: a frozen network keeps its batch statistics."""
        return super().train(mode=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Stay in evaluation mode as a copy too: that of a traced network is in training mode."""
        super().__setstate__(state)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Bx3xHxW (or Bx1xHxW grey) images in [0, 1] to BxCxceil(H/stride)xceil(W/stride)."""
        size = self.grid(size_of(images))
        return torch.cat([self._gridded(level, size) for level in self.extract(images)], dim=1)

    def extract(self, images: Tensor) -> list[Tensor]:
        """Levels of Bx3xHxW (or Bx1xHxW grey) images in [0, 1] as they are, BxCixhixwi."""
        if images.shape[1] == 1:
            images = images.repeat(1, 3, 1, 1)
        images = channels_last(self._normalised(images))
        return list(self.extractor(images).values())

    def _normalised(self, images: Tensor) -> Tensor:
        # As a batch normalisation, which is one operation, in half the time.
        mean, variance = self.mean.flatten(), self.std.flatten().square()
        return functional.batch_norm(images, mean, variance, eps=0.0)

    def fuse_for_inference(self) -> None:
        """Fold batch normalisations into convolutions; see `inference.fuse_for_inference`."""
        # Those of convolutions in int8 are folded already.
        if not self.int8:
            self.extractor = _folded(self.extractor)

    def _gridded(self, level: Tensor, size: tuple[int, int]) -> Tensor:
        """Average a level over its neighbourhood and bring it to the common grid."""
        gridded = average_at(level, size, self.aggregation)
        is_coarse = min(size_of(level)) < min(size)
        return self.coarse_weight * gridded if is_coarse else gridded

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the features of an image of the given (height, width)."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def load_pretrained(self, weights: Path | None) -> None:
        """Load ImageNet weights from a file, or through the library's download when None.

        Args:
            weights: A .safetensors file or a PyTorch checkpoint with the library's key names, or
                a folder that holds one named after the network, such as mobilenet_v2.safetensors.
                Entries of layers behind the deepest level are not needed.

        Raises:
            BackboneError: Missing or unreadable file, weights that do not fit, failed download.
        """
        if weights is None:
            state = _download(self.name)
        else:
            weights = _weights_file(Path(weights), self.name)
            state = _read_state(weights)
        # Weights have the network's own names.
        extractor = self.extractor
        if self.int8:
            extractor = _take_apart(_build(self.name), self.name, self.levels)
        network = extractor.network if isinstance(extractor, TokenMaps) else extractor
        wanted = network.state_dict()
        missing = [
            key for key in wanted if key not in state and not key.endswith('num_batches_tracked')
        ]
        if missing:
            msg = (
                f'{weights} does not fit backbone {self.name}: {len(missing)} of {len(wanted)} '
                f'entries are missing, the first is {missing[0]}; give weights of {self.name}'
            )
            raise BackboneError(msg)
        for key, value in wanted.items():
            if key in state and state[key].shape != value.shape:
                msg = (
                    f'{weights} does not fit backbone {self.name}: {key} is '
                    f'{list(state[key].shape)}, not {list(value.shape)}'
                )
                raise BackboneError(msg)
        network.load_state_dict({k: state.get(k, v) for k, v in wanted.items()})
        if self.int8:
            self.extractor = _quantised(extractor.to(self.mean.device), self.name)


def _build(name: str) -> nn.Module:
    if name.startswith(TIMM):
        timm = _timm(name)
        if not timm.is_model(name.removeprefix(TIMM)):
            msg = f'unknown backbone {name!r}: timm has no model of that name'
            raise BackboneError(msg)
        return timm.create_model(name.removeprefix(TIMM), pretrained=False).eval()
    if name not in torchvision.models.list_models(module=torchvision.models):
        msg = (
            f'unknown backbone {name!r}: give the name of a torchvision model, such as '
            f'mobilenet_v2, or {TIMM}NAME for one of timm'
        )
        raise BackboneError(msg)
    return torchvision.models.get_model(name, weights=None).eval()


def _take_apart(network: nn.Module, name: str, levels: tuple[str, ...]) -> nn.Module:
    network.requires_grad_(requires_grad=False)
    try:
        if is_transformer(network):
            return TokenMaps(network, levels)
        # timm's own function knows which of its modules cannot be traced.
        library = _timm(name).models if name.startswith(TIMM) else feature_extraction
        with warnings.catch_warnings():
            # torchvision warns about nodes that only exist in training mode; none is used.
            warnings.simplefilter('ignore', UserWarning)
            with TRACING:
                return library.create_feature_extractor(network, {level: level for level in levels})
    except TraceError as error:
        msg = f'backbone {name} cannot be taken apart ({_first_line(error)}): choose another'
        raise BackboneError(msg) from error
    except ValueError as error:
        msg = f'backbone {name} has no level {", ".join(levels)}: {_first_line(error)}'
        raise BackboneError(msg) from error


def _folded(extractor: nn.Module) -> nn.Module:
    """Fold batch normalisations into convolutions, where there are any to be found."""
    if isinstance(extractor, GraphModule):
        # Traced again: batch normalisations are within modules that were not taken apart.
        with contextlib.suppress(TraceError), TRACING:
            return fuse(extractor, inplace=True).eval()
    return extractor


def _quantised(extractor: nn.Module, name: str) -> nn.Module:
    folded = _folded(extractor)
    if isinstance(folded, GraphModule):
        quantise(folded)
    if not is_quantised(folded):
        msg = f'backbone {name} has no int8: choose a convolutional network such as mobilenet_v2'
        raise BackboneError(msg)
    return folded


def _timm(name: str) -> ModuleType:
    try:
        # Optional, and slow to import.
        return importlib.import_module('timm')
    except ImportError as error:
        msg = f'backbone {name} needs timm: pip install timm'
        raise BackboneError(msg) from error


def _last_levels(network: nn.Module, name: str, strides: tuple[int, ...]) -> tuple[str, ...]:
    """Find the last top-level block of each of the strides."""
    if is_transformer(network):
        return (default_level(network),)
    last: dict[int, str] = {}

    def record(node: str):
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if not isinstance(output, Tensor) or output.dim() != 4:
                return
            stride = 2 ** round(math.log2(PROBE_SIDE_PX / output.shape[-1]))
            # A pooling layer in front of the classifier may enlarge small maps again.
            if stride >= max(last, default=0):
                last[stride] = node

        return hook

    blocks = [
        block
        for child in network.named_children()
        for block in (
            [(f'{child[0]}.{block}', module) for block, module in child[1].named_children()]
            if child[0] in CONTAINERS
            else [child]
        )
    ]
    hooks = [module.register_forward_hook(record(node)) for node, module in blocks]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, PROBE_SIDE_PX, PROBE_SIDE_PX))
    except (AssertionError, RuntimeError) as error:
        raise _not_convolutional(name, error) from error
    for hook in hooks:
        hook.remove()
    levels = tuple(last[stride] for stride in strides if stride in last)
    if not levels:
        wanted = ' or '.join(', '.join(map(str, strides)).rsplit(', ', 1))
        msg = f'backbone {name} has no convolutional level of stride {wanted}: name its levels'
        raise BackboneError(msg)
    return levels


def _not_convolutional(name: str, error: Exception) -> BackboneError:
    return BackboneError(
        f'backbone {name} does not take images of any size ({_first_line(error)}): '
        'choose a convolutional network such as mobilenet_v2'
    )


def _download(name: str) -> dict[str, Tensor]:
    try:
        # What is printed of it is no result.
        with contextlib.redirect_stdout(sys.stderr):
            return _pretrained(name).state_dict()
    # RuntimeError: timm's own, of models that nobody trained.
    except (OSError, RuntimeError) as error:
        msg = (
            f'cannot download the weights of {name} ({_first_line(error)}): '
            'download them elsewhere and give the file with --weights'
        )
        raise BackboneError(msg) from error


def _pretrained(name: str) -> nn.Module:
    if name.startswith(TIMM):
        return _timm(name).create_model(name.removeprefix(TIMM), pretrained=True)
    return torchvision.models.get_model(name, weights='DEFAULT')


def _weights_file(path: Path, name: str) -> Path:
    """Find the weights of a network: a file as it is, in a folder by its name."""
    if not path.is_dir():
        return path
    stem = name.removeprefix(TIMM)
    files = [path / f'{stem}{suffix}' for suffix in SUFFIXES]
    for file in files:
        if file.is_file():
            return file
    msg = f'no weights of {name} in {path}: put {files[0].name} there or give another --weights'
    raise BackboneError(msg)


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        msg = f'no weights file at {path}: check --weights'
        raise BackboneError(msg)
    try:
        if path.suffix == '.safetensors':
            state = load_file(path)
        else:
            state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        msg = f'cannot read the weights in {path}: {_first_line(error)}'
        raise BackboneError(msg) from error
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        msg = f'{path} holds no weights: give a file of tensors by name'
        raise BackboneError(msg)
    return state


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
