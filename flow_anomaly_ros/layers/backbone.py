# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pretrained torchvision networks as frozen feature extractors."""

import math
from pathlib import Path
import warnings

from flow_anomaly_ros.layers.resample import resize, size_of
from safetensors.torch import load_file
import torch
from torch import nn, Tensor
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Levels of a backbone that are used when none are named: the last one of each of these strides.
DEFAULT_STRIDES = (4, 8, 16)
# Side in px of the empty image that a network is probed with.
PROBE = 128
# Modules that hold a network's top-level blocks instead of being one.
CONTAINERS = ('features', 'trunk_output')


class BackboneError(ValueError):
    """A backbone or its weights cannot be used; the message is one line."""


class Backbone(nn.Module):
    """Several levels of a torchvision classification network, as one map at a common stride.

    Args:
        name: torchvision model name, for example `mobilenet_v2`.
        levels: Graph nodes to take, for example `('features.3', 'features.6')`; empty: the last
            node of stride 4, 8 and 16.
        stride: Stride in px of the map that all levels are resized to.

    Raises:
        BackboneError: Unknown name or level.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, levels: tuple[str, ...] = (), stride: int = 8) -> None:
        super().__init__()
        network = _build(name)
        self.levels = tuple(levels) or _last_levels(network, name)
        try:
            with warnings.catch_warnings():
                # torchvision warns about nodes that only exist in training mode; none is used.
                warnings.simplefilter('ignore', UserWarning)
                self.extractor = create_feature_extractor(network, list(self.levels))
        except ValueError as error:
            msg = f'backbone {name} has no level {", ".join(self.levels)}: {_first_line(error)}'
            raise BackboneError(msg) from error
        self.name = name
        self.stride = stride
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer('std', torch.tensor(IMAGENET_STD)[:, None, None])
        self.extractor.requires_grad_(requires_grad=False)
        self.eval()
        self.channels = sum(self._channels_of_levels())

    def _channels_of_levels(self) -> list[int]:
        try:
            with torch.no_grad():
                outputs = self.extractor(torch.zeros(1, 3, PROBE, PROBE))
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

    def forward(self, images: Tensor) -> Tensor:
        """Bx3xHxW (or Bx1xHxW grey) images in [0, 1] to BxCxceil(H/stride)xceil(W/stride)."""
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        outputs = self.extractor((images - self.mean) / self.std)
        size = self.grid(size_of(images))
        return torch.cat([resize(level, size) for level in outputs.values()], dim=1)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the features of an image of the given (height, width)."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def load_pretrained(self, weights: Path | None) -> None:
        """Load ImageNet weights from a file, or through torchvision's download when None.

        Args:
            weights: A .safetensors file or a PyTorch checkpoint with torchvision's key names.
                Entries of layers behind the deepest level are not needed.

        Raises:
            BackboneError: Missing or unreadable file, weights that do not fit, failed download.
        """
        state = _download(self.name) if weights is None else _read_state(Path(weights))
        wanted = self.extractor.state_dict()
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
        self.extractor.load_state_dict({k: state.get(k, v) for k, v in wanted.items()})


def _build(name: str) -> nn.Module:
    if name not in torchvision.models.list_models(module=torchvision.models):
        msg = f'unknown backbone {name!r}: give a torchvision model name such as mobilenet_v2'
        raise BackboneError(msg)
    return torchvision.models.get_model(name, weights=None).eval()


def _last_levels(network: nn.Module, name: str) -> tuple[str, ...]:
    """Find the last top-level block of each default stride."""
    last: dict[int, str] = {}

    def record(node: str):
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if not isinstance(output, Tensor) or output.dim() != 4:
                return
            stride = 2 ** round(math.log2(PROBE / output.shape[-1]))
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
            network(torch.zeros(1, 3, PROBE, PROBE))
    except (AssertionError, RuntimeError) as error:
        raise _not_convolutional(name, error) from error
    for hook in hooks:
        hook.remove()
    levels = tuple(last[stride] for stride in DEFAULT_STRIDES if stride in last)
    if not levels:
        msg = f'backbone {name} has no convolutional level of stride 4, 8 or 16: name its levels'
        raise BackboneError(msg)
    return levels


def _not_convolutional(name: str, error: Exception) -> BackboneError:
    return BackboneError(
        f'backbone {name} does not take images of any size ({_first_line(error)}): '
        'choose a convolutional network such as mobilenet_v2'
    )


def _download(name: str) -> dict[str, Tensor]:
    try:
        return torchvision.models.get_model(name, weights='DEFAULT').state_dict()
    except OSError as error:
        msg = (
            f'cannot download the weights of {name} ({_first_line(error)}): '
            'download them elsewhere and give the file with --weights'
        )
        raise BackboneError(msg) from error


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
