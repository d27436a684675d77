# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Convolutions quantised to 8 bits, which runtimes of exported models compute faster.

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

# Inputs are uint8. Weights are int8 but use 7 bits only: CPUs without VNNI add two products in
# saturating 16-bit integers.
MAX_INPUT = 255
MAX_WEIGHT = 63
# Scale of weights or inputs that are all zero.
MIN_SCALE = 1e-8


class QuantisedConv2d(nn.Module):
    """A convolution with int8 weights and uint8 inputs.

    PyTorch computes it with fake quantisation, in floating-point numbers that equal the dequantised
    integers. Exported ONNX graphs quantise and dequantise explicitly, so runtimes compute in
    integers.

    Args:
        convolution: The convolution to replace. Its weights are quantised per output channel,
            symmetrically. Its inputs are quantised per tensor, with a scale and a zero point from
            the range that is observed within `observing`.
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
        self._observed_range = 0.0, 0.0
        self._fused: tuple[Tensor, float, float, float] | None = None
        weight, bias = convolution.weight.detach(), convolution.bias
        scale = (weight.abs().amax((1, 2, 3)) / MAX_WEIGHT).clamp(min=MIN_SCALE)
        integers = (weight / scale[:, None, None, None]).round()
        self.register_buffer('weight', integers.to(torch.int8))
        self.register_buffer('weight_scale', scale)
        self.register_buffer('bias', None if bias is None else bias.detach().clone())
        self.register_buffer('scale', scale.new_tensor(MIN_SCALE))
        self.register_buffer('zero', scale.new_tensor(0, dtype=torch.uint8))

    def observe(self, maps: Tensor) -> None:
        """Extend the range of inputs by that of BxCxHxW maps.

        The range contains 0, the value of the padding, from the beginning.
        """
        low, high = self._observed_range
        low, high = min(low, float(maps.min())), max(high, float(maps.max()))
        self._observed_range = low, high
        scale = max((high - low) / MAX_INPUT, MIN_SCALE)
        self.scale.fill_(scale)
        self.zero.fill_(round(-low / scale))

    def fuse_for_inference(self) -> None:
        """Dequantise the weights once; see `inference.fuse_for_inference`."""
        self._fused = self._dequantise_weight()

    def _dequantise_weight(self) -> tuple[Tensor, float, float, float]:
        """Weights, the scale of inputs, and the range of inputs in steps from the zero point."""
        zero = int(self.zero)
        weight = channels_last(self.weight * self.weight_scale[:, None, None, None])
        return weight, float(self.scale), -zero, MAX_INPUT - zero

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve BxCxHxW maps; within `observing`, only their range is recorded."""
        is_exporting = torch.onnx.is_in_onnx_export()
        maps, weight = self._onnx_operands(maps) if is_exporting else self._fake_quantise(maps)
        return functional.conv2d(maps, weight, self.bias, *self._geometry)

    def _fake_quantise(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs, rounded to what the integers stand for, and dequantised weights."""
        weight, scale, low, high = self._fused or self._dequantise_weight()
        if self.is_observing:
            self.observe(maps)
            return maps, weight
        steps = maps / scale
        if steps.requires_grad:
            # Straight-through estimator: rounding gets the gradient of the identity.
            steps = steps.clamp(low, high)
            steps = steps + (steps.round() - steps).detach()
        else:
            # Takes a tenth of the time of torch.fake_quantize_per_tensor_affine.
            steps = steps.round_().clamp_(low, high)
        return steps.mul_(scale), weight

    def _onnx_operands(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and weights behind QuantizeLinear and DequantizeLinear operators of ONNX."""
        symbolic = torch.onnx.ops.symbolic
        parameters = self.scale, self.zero
        quantised = symbolic(
            'QuantizeLinear', (maps, *parameters), dtype=torch.uint8, shape=maps.shape
        )
        dequantised = symbolic(
            'DequantizeLinear', (quantised, *parameters), dtype=torch.float32, shape=maps.shape
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
    """Replace the convolutions within a network; fuse conv+bn before."""
    for name, child in [*network.named_modules()]:
        if type(child) is nn.Conv2d and child.padding_mode == 'zeros':
            network.set_submodule(name, QuantisedConv2d(child))


def is_quantised(network: nn.Module) -> bool:
    """Whether a network has a quantised convolution."""
    return bool(_quantised_convolutions(network))


@contextlib.contextmanager
def observing(network: nn.Module) -> Iterator[None]:
    """Let the quantised convolutions of a network observe the range of their inputs.

    Inside the context they compute without rounding their inputs.
    """
    convolutions = _quantised_convolutions(network)
    for convolution in convolutions:
        convolution.is_observing = True
    try:
        yield
    finally:
        for convolution in convolutions:
            convolution.is_observing = False


def _quantised_convolutions(network: nn.Module) -> list[QuantisedConv2d]:
    return [module for module in network.modules() if isinstance(module, QuantisedConv2d)]
