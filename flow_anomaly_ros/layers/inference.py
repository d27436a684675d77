# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Optimisations of a trained detector for inference: fusing, channels_last, prepacked weights."""

from collections import Counter
from collections.abc import Callable, Iterator
import contextlib
import copy
import functools
from typing import Protocol, runtime_checkable, TypeGuard

import torch
from torch import nn, Tensor
from torch.fx import GraphModule
from torch.nn import functional

# Prepacked weights are made for one input shape. The oldest are dropped if there are more.
MAX_PACKED_SHAPES = 8
# An activation as oneDNN takes it: name and scalar arguments.
Activation = tuple[str, list[float]]
ACTIVATIONS: dict[type[nn.Module], Callable[..., Activation]] = {
    nn.ReLU: lambda _: ('relu', []),
    nn.ReLU6: lambda _: ('hardtanh', [0.0, 6.0]),
    nn.Hardtanh: lambda module: ('hardtanh', [module.min_val, module.max_val]),
    nn.Sigmoid: lambda _: ('sigmoid', []),
}
NO_ACTIVATION: Activation = ('none', [])


@runtime_checkable
class Fusable(Protocol):
    """A module that can precompute whatever does not depend on its input."""

    def fuse_for_inference(self) -> None:
        """Precompute it; outputs change by rounding only."""


def fuse_for_inference(module: nn.Module) -> None:
    """Fuse all `Fusable` parts of a module, for inference only.

    The module can neither load nor save weights afterwards.
    """
    for child in [*module.modules()]:
        if isinstance(child, Fusable):
            child.fuse_for_inference()


@contextlib.contextmanager
def optimised_for_inference(parent: nn.Module, name: str) -> Iterator[None]:
    """Put a copy of a child, optimised for inference, in the child's place meanwhile.

    For networks that stay as they are while another part is trained. The copy passes on no
    gradients, and can neither load nor save weights.

    Args:
        parent: A module.
        name: Attribute of the child.
    """
    original = getattr(parent, name)
    fast = copy.deepcopy(original)
    fuse_for_inference(fast)
    convert_to_channels_last(fast)
    prepack(fast)
    setattr(parent, name, fast)
    try:
        yield
    finally:
        setattr(parent, name, original)


def channels_last(maps: Tensor) -> Tensor:
    """Convert BxCxHxW maps to channels_last memory format.

    Convolution, resizing and pooling are several times faster in this format. ONNX graphs have no
    memory formats: during export the maps stay as they are.
    """
    if torch.onnx.is_in_onnx_export():
        return maps
    return maps.contiguous(memory_format=torch.channels_last)


def is_channels_last(maps: Tensor) -> bool:
    """Whether BxCxHxW maps are channels_last and not contiguous as well, as with one channel."""
    return not maps.is_contiguous() and maps.is_contiguous(memory_format=torch.channels_last)


def convert_to_channels_last(module: nn.Module) -> None:
    """Convert the weights of all convolutions within a module to channels_last."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            child.to(memory_format=torch.channels_last)


def can_prepack() -> bool:
    """Whether this PyTorch has oneDNN's convolution operators with fused activation.

    `torch.compile` emits them on CPUs; they are not a public interface and may disappear.
    """
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name)
        for name in ('_reorder_convolution_weight', '_convolution_pointwise')
    )


class PrepackedConv2d(nn.Module):
    """A float32 CPU convolution with prepacked weights and a fused activation.

    `nn.Conv2d` reorders its weights at every call and leaves the activation to another pass over
    the output. For small maps both take as long as the arithmetic.

    Args:
        convolution: The convolution to replace; its padding must be numeric.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.activation = NO_ACTIVATION
        assert not isinstance(convolution.padding, str)
        vertical, horizontal = convolution.padding
        self._pad: Callable[[Tensor], Tensor] | None = None
        if convolution.padding_mode != 'zeros':
            sides = [horizontal, horizontal, vertical, vertical]
            mode = convolution.padding_mode
            self._pad = functools.partial(functional.pad, pad=sides, mode=mode)
            vertical = horizontal = 0
        padding = vertical, horizontal
        # Plain attributes: looking up parameters of a module takes as long as small convolutions.
        self._weight = convolution.weight.detach()
        self._bias = None if convolution.bias is None else convolution.bias.detach()
        self._geometry = padding, convolution.stride, convolution.dilation, convolution.groups
        self._packed_weights: dict[torch.Size, Tensor] = {}

    @staticmethod
    def supports(module: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether a module is a convolution that can be prepacked."""
        return (
            type(module) is nn.Conv2d
            and not isinstance(module.padding, str)
            and module.weight.dtype == torch.float32
            and module.weight.device.type == 'cpu'
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Apply convolution and activation to BxCxHxW maps; the output is channels_last."""
        if self._pad is not None:
            maps = self._pad(maps)
        weight = self._packed_weights.get(maps.shape)
        if weight is None:
            weight = self._pack_weight(maps.shape)
        return torch.ops.mkldnn._convolution_pointwise(
            maps, weight, self._bias, *self._geometry, *self.activation, ''
        )

    def _pack_weight(self, shape: torch.Size) -> Tensor:
        if len(self._packed_weights) >= MAX_PACKED_SHAPES:
            del self._packed_weights[next(iter(self._packed_weights))]
        self._packed_weights[shape] = torch.ops.mkldnn._reorder_convolution_weight(
            self._weight, *self._geometry, shape
        )
        return self._packed_weights[shape]


def prepack(module: nn.Module) -> None:
    """Replace the convolutions within a module, and the activations after them, by prepacked ones.

    Outputs change by rounding only. The module can be used for inference on the CPU only
    afterwards. Without the operators of `can_prepack` it stays as it is.
    """
    if not can_prepack():
        return
    for child in [*module.modules()]:
        if isinstance(child, GraphModule):
            _prepack_graph(child)
        elif isinstance(child, nn.Sequential):
            _prepack_sequence(child)
    for parent in [*module.modules()]:
        if not isinstance(parent, PrepackedConv2d):
            for name, child in parent.named_children():
                if PrepackedConv2d.supports(child):
                    setattr(parent, name, PrepackedConv2d(child))


def _prepack_sequence(sequence: nn.Sequential) -> None:
    """Fuse each convolution with the activation that follows it in the sequence."""
    for index, (module, following) in enumerate(zip(sequence, [*sequence][1:], strict=False)):
        if PrepackedConv2d.supports(module) and type(following) in ACTIVATIONS:
            sequence[index] = _with_activation(module, following)
            sequence[index + 1] = nn.Identity()


def _prepack_graph(graph_module: GraphModule) -> None:
    """Fuse each convolution that is called once with an activation that is its only user."""
    modules = dict(graph_module.named_modules())
    calls = [node for node in graph_module.graph.nodes if node.op == 'call_module']
    call_counts = Counter(node.target for node in calls)
    for node in calls:
        convolution = modules[node.target]
        if not PrepackedConv2d.supports(convolution) or len(node.users) != 1:
            continue
        (user,) = node.users
        if (
            call_counts[node.target] == 1
            and user.op == 'call_module'
            and type(modules[user.target]) in ACTIVATIONS
        ):
            packed = _with_activation(convolution, modules[user.target])
            graph_module.set_submodule(node.target, packed)
            user.replace_all_uses_with(node)
            graph_module.graph.erase_node(user)
    graph_module.recompile()


def _with_activation(convolution: nn.Conv2d, activation: nn.Module) -> PrepackedConv2d:
    packed = PrepackedConv2d(convolution)
    packed.activation = ACTIVATIONS[type(activation)](activation)
    return packed
