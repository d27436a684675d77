# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks of torchvision and timm, cut at chosen levels."""

import contextlib
import importlib
import math
import threading
from types import ModuleType
from typing import Any, cast
import warnings

from flow_anomaly_ros.errors import error_first_line
from flow_anomaly_ros.layers.packaged_networks import BATCH_NORM_EPSILON, PACKAGED_NETWORKS
from flow_anomaly_ros.layers.transformer import default_level, is_transformer, TokenMaps
import torch
from torch import nn, Tensor
from torch.fx import GraphModule
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

# Prefix of the names of timm models; some of them exist in torchvision too.
TIMM_PREFIX = 'timm/'
# Held while torch.fx traces a network. Tracing patches `nn.Module.__call__` for the whole process,
# so a detector that runs in another thread has to wait.
TRACE_LOCK = threading.Lock()
# Side in px of the empty image that probes the levels of a network.
PROBE_SIDE_PX = 128
# Top-level modules that are not blocks themselves but contain them.
BLOCK_CONTAINERS = ('features', 'trunk_output', 'blocks', 'stages')


class BackboneError(ValueError):
    """A backbone or its weights cannot be used; the message is one line."""


def build_network(name: str) -> nn.Module:
    """Build a network with random weights, in evaluation mode.

    Args:
        name: Name of a torchvision model, `timm/` followed by the name of a timm model, or one of
            `PACKAGED_NETWORKS`.

    Raises:
        BackboneError: The name is unknown, or timm is not installed.
    """
    if packaged := PACKAGED_NETWORKS.get(name):
        statistics = {'mean': (packaged.mean,) * 3, 'std': (packaged.std,) * 3}
        network = import_timm(name).create_model(
            packaged.timm_name,
            pretrained=False,
            pretrained_cfg_overlay=statistics,
            bn_eps=BATCH_NORM_EPSILON,
        )
        return network.eval()
    if name.startswith(TIMM_PREFIX):
        timm = import_timm(name)
        if not timm.is_model(name.removeprefix(TIMM_PREFIX)):
            msg = f'unknown backbone {name!r}: timm has no model of that name'
            raise BackboneError(msg)
        return timm.create_model(name.removeprefix(TIMM_PREFIX), pretrained=False).eval()
    models = import_torchvision_models()
    if name not in models.list_models(module=models):
        msg = (
            f'unknown backbone {name!r}: give {", ".join(PACKAGED_NETWORKS)}, the name of a '
            f'torchvision model, such as mobilenet_v2, or {TIMM_PREFIX}NAME for a timm model'
        )
        raise BackboneError(msg)
    return models.get_model(name, weights=None).eval()


def import_timm(name: str) -> ModuleType:
    """Import timm for the backbone `name`.

    Raises:
        BackboneError: timm is not installed.
    """
    try:
        # timm is slow to import.
        timm = importlib.import_module('timm')
        # Batch normalisations are then modules of the traced network, which can be fused.
        timm.models.register_notrace_module(timm.layers.BatchNormAct2d)
        return timm
    except ImportError as error:
        msg = f'backbone {name} needs timm: pip install timm'
        raise BackboneError(msg) from error


def import_torchvision_models() -> ModuleType:
    """Import torchvision's models, which takes as long as importing torch.

    Detectors without such a network start in half the time because they do not call this.
    """
    return importlib.import_module('torchvision.models')


def create_feature_extractor(network: nn.Module, name: str, levels: tuple[str, ...]) -> nn.Module:
    """Freeze a network and cut it behind its deepest level.

    Args:
        network: The network, as `build_network` returns it.
        name: Its name, for error messages.
        levels: Graph nodes of a convolutional network, blocks of a transformer.

    Returns:
        A module that maps normalised Bx3xHxW images to a dict of one BxCixhixwi map per level.

    Raises:
        BackboneError: A level does not exist, or torch.fx cannot trace the network.
    """
    network.requires_grad_(requires_grad=False)
    try:
        if is_transformer(network):
            return TokenMaps(network, levels)
        # timm's own function knows which of timm's modules torch.fx must not enter.
        library = (
            import_timm(name).models
            if name.startswith(TIMM_PREFIX) or name in PACKAGED_NETWORKS
            else importlib.import_module('torchvision.models.feature_extraction')
        )
        with warnings.catch_warnings():
            # torchvision warns about nodes that exist in training mode only; none of them is used.
            warnings.simplefilter('ignore', UserWarning)
            with TRACE_LOCK:
                return library.create_feature_extractor(network, {level: level for level in levels})
    except TraceError as error:
        msg = (
            f'backbone {name} cannot be traced by torch.fx ({error_first_line(error)}): '
            'choose another backbone'
        )
        raise BackboneError(msg) from error
    except ValueError as error:
        msg = f'backbone {name} has no level {", ".join(levels)}: {error_first_line(error)}'
        raise BackboneError(msg) from error


def fuse_batch_norms(extractor: nn.Module) -> nn.Module:
    """Fuse batch normalisations into the convolutions before them, in a traced network."""
    if isinstance(extractor, GraphModule):
        _split_activations(extractor)
        # `fuse` traces once more, since batch normalisations may be inside modules that the first
        # tracing did not enter.
        with contextlib.suppress(TraceError), TRACE_LOCK:
            return fuse(extractor, inplace=True).eval()
    return extractor


def _split_activations(extractor: GraphModule) -> None:
    """Replace timm's batch normalisations with activation by plain ones and the activation."""
    for name, module in [*extractor.named_modules()]:
        if isinstance(module, nn.BatchNorm2d) and hasattr(module, 'act'):
            plain = nn.BatchNorm2d(module.num_features, module.eps, affine=module.affine)
            plain.load_state_dict(module.state_dict(), assign=True)
            # What lies between both, a dropout, does nothing in evaluation mode.
            activation = cast(nn.Module, module.act)
            extractor.set_submodule(name, nn.Sequential(plain.eval(), activation))


def default_levels(network: nn.Module, name: str, strides: tuple[int, ...]) -> tuple[str, ...]:
    """Find the last top-level block of each stride; of a transformer one block at 2/3 of its depth.

    Args:
        network: The network, as `build_network` returns it.
        name: Its name, for error messages.
        strides: Strides in px.

    Raises:
        BackboneError: The network has no convolutional level of any of these strides, or takes
            images of one size only.
    """
    if is_transformer(network):
        return (default_level(network),)
    last_blocks: dict[int, str] = {}

    def record_stride(block: str) -> Any:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if not isinstance(output, Tensor) or output.dim() != 4:
                return
            stride = 2 ** round(math.log2(PROBE_SIDE_PX / output.shape[-1]))
            # An adaptive pooling layer before the classifier may enlarge small maps again.
            if stride >= max(last_blocks, default=0):
                last_blocks[stride] = block

        return hook

    hooks = [
        module.register_forward_hook(record_stride(block))
        for block, module in _top_level_blocks(network)
    ]
    probe(network, name)
    for hook in hooks:
        hook.remove()
    levels = tuple(last_blocks[stride] for stride in strides if stride in last_blocks)
    if not levels:
        expected = ' or '.join(', '.join(map(str, strides)).rsplit(', ', 1))
        msg = (
            f'backbone {name} has no convolutional level of stride {expected}: '
            'set `levels` explicitly'
        )
        raise BackboneError(msg)
    return levels


def _top_level_blocks(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of the blocks that a network runs one after the other."""
    blocks = []
    for name, child in network.named_children():
        if name in BLOCK_CONTAINERS:
            blocks += [(f'{name}.{block}', module) for block, module in child.named_children()]
        else:
            blocks.append((name, child))
    return blocks


def probe(network: nn.Module, name: str) -> Any:
    """Run a network once on an empty image of `PROBE_SIDE_PX`.

    Returns:
        The output of the network.

    Raises:
        BackboneError: The network does not take an image of this size.
    """
    try:
        with torch.no_grad():
            return network(torch.zeros(1, 3, PROBE_SIDE_PX, PROBE_SIDE_PX))
    except (AssertionError, RuntimeError, ValueError) as error:
        msg = (
            f'backbone {name} does not accept images of any size ({error_first_line(error)}): '
            'choose a convolutional network such as mobilenet_v2'
        )
        raise BackboneError(msg) from error
