# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Convolutions on 8-bit whole numbers, which runtimes of exported models compute faster.

Source: Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", CVPR 2018.
"""

from collections.abc import Iterator
import contextlib
from typing import Any

from flow_anomaly_ros.layers.inference import channels_last
import torch
from torch import nn, Tensor
from torch.nn import functional

# Inputs are 0 to 255; weights leave half of what 8 bits hold: processors without instructions for
# it add two products of them in 16 bits.
MAX_INPUT = 255
MAX_WEIGHT = 63
# A scale of nothing but zeros.
MIN_SCALE = 1e-8


class QuantisedConv2d(nn.Module):
    """A convolution whose weights and inputs are 8-bit whole numbers, by scales of their own.

    PyTorch computes what comes out with floating-point numbers that hold these; exported graphs say
    what it is, and runtimes then compute with the whole numbers.

    Args:
        convolution: What to do. Weights have a scale for every channel that comes out; what goes in
            has one, and a zero, from the least and the most that `observing` has seen.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    scale: Tensor
    zero: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._geometry: tuple[Any, ...] = (
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.groups,
        )
        self.is_observing = False
        self._seen = 0.0, 0.0
        self._folded: tuple[Tensor, float, float, float] | None = None
        weight, bias = convolution.weight.detach(), convolution.bias
        scale = (weight.abs().amax((1, 2, 3)) / MAX_WEIGHT).clamp(min=MIN_SCALE)
        whole = (weight / scale[:, None, None, None]).round()
        self.register_buffer('weight', whole.to(torch.int8))
        self.register_buffer('weight_scale', scale)
        self.register_buffer('bias', None if bias is None else bias.detach().clone())
        self.register_buffer('scale', scale.new_tensor(MIN_SCALE))
        self.register_buffer('zero', scale.new_tensor(0, dtype=torch.uint8))

    def observe(self, maps: Tensor) -> None:
        """Widen the range of inputs by those of BxCxHxW maps; zero, the padding, is within it."""
        least, most = min(self._seen[0], float(maps.min())), max(self._seen[1], float(maps.max()))
        self._seen = least, most
        scale = max((most - least) / MAX_INPUT, MIN_SCALE)
        self.scale.fill_(scale)
        self.zero.fill_(round(-least / scale))

    def fuse_for_inference(self) -> None:
        """Compute once what the whole numbers stand for; see `inference.fuse_for_inference`."""
        self._folded = self._computed()

    def _computed(self) -> tuple[Tensor, float, float, float]:
        """Weights, the inputs' scale, and the least and the most of them in whole numbers."""
        zero = int(self.zero)
        weight = channels_last(self.weight * self.weight_scale[:, None, None, None])
        return weight, float(self.scale), -zero, MAX_INPUT - zero

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW to what the convolution makes of it."""
        is_exporting = torch.onnx.is_in_onnx_export()
        maps, weight = self._written(maps) if is_exporting else self._imitated(maps)
        return functional.conv2d(maps, weight, self.bias, *self._geometry)

    def _imitated(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and weights as the floating-point numbers that the whole ones stand for."""
        weight, scale, least, most = self._folded or self._computed()
        if self.is_observing:
            self.observe(maps)
            return maps, weight
        steps = maps / scale
        if steps.requires_grad:
            # Rounding has no gradient: that of what was rounded is taken.
            steps = steps.clamp(least, most)
            steps = steps + (steps.round() - steps).detach()
        else:
            # A tenth of the time that PyTorch's own operation for it takes.
            steps = steps.round_().clamp_(least, most)
        return steps.mul_(scale), weight

    def _written(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and weights as operators of ONNX."""
        symbolic = torch.onnx.ops.symbolic
        steps = self.scale, self.zero
        whole = symbolic('QuantizeLinear', (maps, *steps), dtype=torch.uint8, shape=maps.shape)
        dequantised = symbolic(
            'DequantizeLinear', (whole, *steps), dtype=torch.float32, shape=maps.shape
        )
        weight = symbolic(
            'DequantizeLinear',
            (self.weight, self.weight_scale),
            {'axis': 0},
            dtype=torch.float32,
            shape=self.weight.shape,
        )
        return dequantised, weight


def quantise(network: nn.Module) -> None:
    """Replace the convolutions within a network; batch normalisations are to be folded before."""
    for name, child in [*network.named_modules()]:
        if type(child) is nn.Conv2d and child.padding_mode == 'zeros':
            network.set_submodule(name, QuantisedConv2d(child))


def is_quantised(network: nn.Module) -> bool:
    """Whether any convolution within a network is."""
    return bool(_quantised(network))


@contextlib.contextmanager
def observing(network: nn.Module) -> Iterator[None]:
    """While it lasts, quantised convolutions learn the range of their inputs, from all they see."""
    convolutions = _quantised(network)
    for one in convolutions:
        one.is_observing = True
    try:
        yield
    finally:
        for one in convolutions:
            one.is_observing = False


def _quantised(network: nn.Module) -> list[QuantisedConv2d]:
    return [one for one in network.modules() if isinstance(one, QuantisedConv2d)]
