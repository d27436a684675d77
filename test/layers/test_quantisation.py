# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Quantised convolutions stay close to those they replace, in PyTorch and other runtimes."""

import copy

from flow_anomaly_ros.layers.backbone import Backbone, BackboneError
from flow_anomaly_ros.layers.inference import fuse_for_inference
from flow_anomaly_ros.layers.quantisation import observing, QuantisedConv2d
import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from torch import nn
import torchvision


@pytest.fixture
def convolution():
    torch.manual_seed(0)
    return nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2).eval()


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return torch.randn(2, 8, 12, 10) + 0.5


@pytest.fixture
def quantised(convolution, maps):
    module = QuantisedConv2d(convolution)
    with observing(module):
        module(maps)
    return module


@torch.no_grad()
def relative_error(output, expected):
    return float((output - expected).square().mean().sqrt() / expected.std())


def test_outputs_differ_from_the_convolutions_by_rounding_only(convolution, quantised, maps):
    error = relative_error(quantised(maps), convolution(maps))
    # Rounding to 7 and 8 bits of weights and inputs that reach three standard deviations.
    assert 1e-3 < error < 0.02
    assert quantised.weight.dtype == torch.int8
    assert quantised.weight.abs().amax((1, 2, 3)).tolist() == [63] * 16


def test_inputs_are_rounded_to_256_levels_that_include_zero(quantised, maps):
    step = quantised.scale
    levels = (torch.randint(0, 256, maps.shape) - quantised.zero.float()) * step
    torch.testing.assert_close(quantised(levels), quantised(levels + 0.4 * step))
    output = quantised(torch.zeros_like(maps))
    torch.testing.assert_close(output, quantised.bias[:, None, None].expand_as(output))


def test_inputs_beyond_the_observed_range_are_clamped(quantised, maps):
    largest = torch.full_like(maps, float(maps.max()))
    torch.testing.assert_close(quantised(10 * largest), quantised(largest), rtol=1e-3, atol=1e-3)


def test_the_range_covers_all_observed_inputs(convolution, maps):
    module = QuantisedConv2d(convolution)
    with observing(module):
        module(maps)
        narrow = float(module.scale)
        for _ in range(1000):
            module(3 * maps)
    assert float(module.scale) == pytest.approx(3 * narrow, rel=1e-5)
    module(9 * maps)
    assert float(module.scale) == pytest.approx(3 * narrow, rel=1e-5)


def test_rounding_passes_gradients_through_and_clamping_stops_them(quantised, maps):
    convolution = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2)
    with torch.no_grad():
        convolution.weight.copy_(quantised.weight * quantised.weight_scale[:, None, None, None])
    plain, rounded = (maps.clone().requires_grad_() for _ in range(2))
    convolution(plain).sum().backward()
    quantised(rounded).sum().backward()
    # Values that round to the first or the last level may lie beyond it and be clamped.
    inside = (maps > maps.min()) & (maps < maps.max())
    torch.testing.assert_close(rounded.grad[inside], plain.grad[inside])
    torch.testing.assert_close(quantised(rounded), quantised(maps))
    beyond = (maps.max() + 1 + maps.abs()).requires_grad_()
    quantised(beyond).sum().backward()
    assert not beyond.grad.any()


def test_fusing_a_quantised_convolution_changes_nothing(quantised, maps):
    before = quantised(maps)
    fuse_for_inference(quantised)
    torch.testing.assert_close(quantised(maps), before)


@pytest.fixture
def small_network(maps):
    """Build two convolutions, between which runtimes may pass integers."""
    torch.manual_seed(2)
    network = nn.Sequential(
        QuantisedConv2d(nn.Conv2d(8, 32, 3, padding=1)),
        nn.ReLU(),
        QuantisedConv2d(nn.Conv2d(32, 4, 1)),
    ).eval()
    with observing(network):
        network(maps)
    return network


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_an_exported_network_gives_the_same_output(small_network, maps, runtime, tmp_path):
    library = pytest.importorskip(runtime)
    for name in ('onnx', 'onnxscript'):
        pytest.importorskip(name)
    path = tmp_path / 'model.onnx'
    torch.onnx.export(small_network, (maps,), path, dynamo=True, verbose=False, opset_version=18)
    if runtime == 'onnxruntime':
        session = library.InferenceSession(path)
        (output,) = session.run(None, {session.get_inputs()[0].name: maps.numpy()})
    else:
        options = {'INFERENCE_PRECISION_HINT': 'f32'}
        output = library.Core().compile_model(path, 'CPU', options)(maps.numpy())[0]
    expected = small_network(maps).numpy()
    # Sums half way between two integers may be rounded to either.
    step = float(small_network[2].scale) * float(small_network[2].weight_scale.max()) * 63
    assert np.abs(output - expected).max() <= 2 * step
    assert np.abs(output - expected).mean() <= 0.05 * step


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / 'squeezenet1_1.safetensors'
    save_file(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return path


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.rand(2, 3, 48, 40)


def test_an_int8_backbone_gives_nearly_the_same_features(weights, images):
    backbone, quantised = Backbone('squeezenet1_1'), Backbone('squeezenet1_1', int8=True)
    for network in (backbone, quantised):
        network.load_pretrained(weights)
    with observing(quantised):
        quantised(images)
    assert relative_error(quantised(images), backbone(images)) < 0.1
    assert not any(parameter.requires_grad for parameter in quantised.parameters())
    assert torch.equal(copy.deepcopy(quantised)(images), quantised(images))


def test_the_observed_range_is_part_of_the_state_dict(weights, images):
    quantised, other = (Backbone('squeezenet1_1', int8=True) for _ in range(2))
    quantised.load_pretrained(weights)
    with observing(quantised):
        quantised(images)
    other.load_state_dict(quantised.state_dict())
    assert torch.equal(other(images), quantised(images))


def test_batch_normalisations_are_fused_before_quantisation(images):
    torch.manual_seed(0)
    quantised = Backbone('resnet18', levels=('layer1',), int8=True)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in quantised.modules())
    quantised(images)


# A transformer, and a network whose convolutions are a class of timm.
@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'resnetv2_50x1_bit'])
def test_int8_is_refused_without_plain_convolutions(name):
    pytest.importorskip('timm')
    with pytest.raises(
        BackboneError, match='cannot be quantised to int8: choose a convolutional network'
    ):
        Backbone(f'timm/{name}', int8=True)
