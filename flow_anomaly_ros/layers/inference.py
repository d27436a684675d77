# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is done once to a trained detector, and then makes every image faster."""

from collections import Counter
from collections.abc import Callable
import functools
from typing import Protocol, runtime_checkable, TypeGuard

import torch
from torch import nn, Tensor
from torch.fx import GraphModule
from torch.nn import functional

# A layout is for images of one size and number. More than these are forgotten, the oldest first.
MAX_LAYOUTS = 8
# How oneDNN names activations, and what it wants to know of them.
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
    """A module that can compute once what does not depend on the images."""

    def fuse_for_inference(self) -> None:
        """Compute it; outputs stay the same but for rounding."""


def fuse_for_inference(module: nn.Module) -> None:
    """Fold all there is to fold within a module, for inference alone.

    Weights can neither be loaded nor saved afterwards.
    """
    for child in [*module.modules()]:
        if isinstance(child, Fusable):
            child.fuse_for_inference()


def channels_last(maps: Tensor) -> Tensor:
    """Let the channels of each position of BxCxHxW maps lie side by side.

    Convolutions, resizing and pooling are then several times faster. Exported graphs know no
    layouts, and are left alone.
    """
    if torch.onnx.is_in_onnx_export():
        return maps
    return maps.contiguous(memory_format=torch.channels_last)


def is_channels_last(maps: Tensor) -> bool:
    """Whether the channels of each position lie side by side, where there are several."""
    return not maps.is_contiguous() and maps.is_contiguous(memory_format=torch.channels_last)


def convert_to_channels_last(module: nn.Module) -> None:
    """Let the weights of all convolutions within a module lie as `channels_last` maps do."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            child.to(memory_format=torch.channels_last)


def can_prepack() -> bool:
    """Whether this PyTorch has oneDNN's convolutions with an activation.

    They are those that `torch.compile` writes into its programs; that they stay is not promised.
    """
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name)
        for name in ('_reorder_convolution_weight', '_convolution_pointwise')
    )


class PrepackedConv2d(nn.Module):
    """A convolution and the activation behind it, as one operation on float32 of a CPU.

    `nn.Conv2d` lays out its weights at every call and leaves the activation to another pass, which
    for small maps take as long as the arithmetic.

    Args:
        convolution: What to do, with its padding given in numbers.
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
        # Plain attributes: those of modules take as long to find as small maps to compute.
        self._weight = convolution.weight.detach()
        self._bias = None if convolution.bias is None else convolution.bias.detach()
        self._geometry = padding, convolution.stride, convolution.dilation, convolution.groups
        self._layouts: dict[torch.Size, Tensor] = {}

    @staticmethod
    def takes(module: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether a module is a convolution that can be packed."""
        return (
            type(module) is nn.Conv2d
            and not isinstance(module.padding, str)
            and module.weight.dtype == torch.float32
            and module.weight.device.type == 'cpu'
        )

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW to what the convolution and its activation make of it, channels last."""
        if self._pad is not None:
            maps = self._pad(maps)
        weight = self._layouts.get(maps.shape)
        if weight is None:
            weight = self._laid_out(maps.shape)
        return torch.ops.mkldnn._convolution_pointwise(
            maps, weight, self._bias, *self._geometry, *self.activation, ''
        )

    def _laid_out(self, shape: torch.Size) -> Tensor:
        if len(self._layouts) >= MAX_LAYOUTS:
            del self._layouts[next(iter(self._layouts))]
        self._layouts[shape] = torch.ops.mkldnn._reorder_convolution_weight(
            self._weight, *self._geometry, shape
        )
        return self._layouts[shape]


def prepack(module: nn.Module) -> None:
    """Replace the convolutions within a module, and the activations behind them.

    Outputs stay the same but for rounding; the module can then be used for inference on the CPU
    alone. Without what `can_prepack` asks for it stays as it is.
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
                if PrepackedConv2d.takes(child):
                    setattr(parent, name, PrepackedConv2d(child))


def _prepack_sequence(sequence: nn.Sequential) -> None:
    """Pack convolutions with the activation that comes next in the sequence."""
    for index, (one, following) in enumerate(zip(sequence, [*sequence][1:], strict=False)):
        if PrepackedConv2d.takes(one) and type(following) in ACTIVATIONS:
            sequence[index] = _with_activation(one, following)
            sequence[index + 1] = nn.Identity()


def _prepack_graph(graph_module: GraphModule) -> None:
    """Pack convolutions that run once with the activation that alone reads them."""
    modules = dict(graph_module.named_modules())
    calls = [node for node in graph_module.graph.nodes if node.op == 'call_module']
    runs = Counter(node.target for node in calls)
    for node in calls:
        convolution = modules[node.target]
        if not PrepackedConv2d.takes(convolution) or len(node.users) != 1:
            continue
        (reader,) = node.users
        if (
            runs[node.target] == 1
            and reader.op == 'call_module'
            and type(modules[reader.target]) in ACTIVATIONS
        ):
            packed = _with_activation(convolution, modules[reader.target])
            graph_module.set_submodule(node.target, packed)
            reader.replace_all_uses_with(node)
            graph_module.graph.erase_node(reader)
    graph_module.recompile()


def _with_activation(convolution: nn.Conv2d, activation: nn.Module) -> PrepackedConv2d:
    packed = PrepackedConv2d(convolution)
    packed.activation = ACTIVATIONS[type(activation)](activation)
    return packed
