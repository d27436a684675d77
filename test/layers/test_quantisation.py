# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Convolutions on whole numbers stay close to what they replace, here and in other runtimes."""

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
def relative_error(found, wanted):
    return float((found - wanted).square().mean().sqrt() / wanted.std())


def test_outputs_are_those_of_the_convolution_but_for_rounding(convolution, quantised, maps):
    error = relative_error(quantised(maps), convolution(maps))
    # Of 7 and 8 bits, with weights and inputs that reach three times their deviation.
    assert 1e-3 < error < 0.02
    assert quantised.weight.dtype == torch.int8
    assert quantised.weight.abs().amax((1, 2, 3)).tolist() == [63] * 16


def test_inputs_are_one_of_256_numbers_and_zero_is_one_of_them(quantised, maps):
    step = quantised.scale
    whole = (torch.randint(0, 256, maps.shape) - quantised.zero.float()) * step
    torch.testing.assert_close(quantised(whole), quantised(whole + 0.4 * step))
    nothing = quantised(torch.zeros_like(maps))
    torch.testing.assert_close(nothing, quantised.bias[:, None, None].expand_as(nothing))


def test_inputs_beyond_what_was_watched_are_the_nearest_of_it(quantised, maps):
    most = torch.full_like(maps, float(maps.max()))
    torch.testing.assert_close(quantised(10 * most), quantised(most), rtol=1e-3, atol=1e-3)


def test_the_range_is_that_of_all_that_was_watched(convolution, maps):
    module = QuantisedConv2d(convolution)
    with observing(module):
        module(maps)
        narrow = float(module.scale)
        for _ in range(1000):
            module(3 * maps)
    assert float(module.scale) == pytest.approx(3 * narrow, rel=1e-5)
    module(9 * maps)
    assert float(module.scale) == pytest.approx(3 * narrow, rel=1e-5)


def test_gradients_are_those_without_rounding_and_none_beyond_what_was_watched(quantised, maps):
    convolution = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2)
    with torch.no_grad():
        convolution.weight.copy_(quantised.weight * quantised.weight_scale[:, None, None, None])
    wanted, found = (maps.clone().requires_grad_() for _ in range(2))
    convolution(wanted).sum().backward()
    quantised(found).sum().backward()
    # What rounds to the outermost whole number may lie beyond it.
    inside = (maps > maps.min()) & (maps < maps.max())
    torch.testing.assert_close(found.grad[inside], wanted.grad[inside])
    torch.testing.assert_close(quantised(found), quantised(maps))
    beyond = (maps.max() + 1 + maps.abs()).requires_grad_()
    quantised(beyond).sum().backward()
    assert not beyond.grad.any()


def test_folding_changes_nothing(quantised, maps):
    before = quantised(maps)
    fuse_for_inference(quantised)
    torch.testing.assert_close(quantised(maps), before)


@pytest.fixture
def small_network(maps):
    """Two convolutions: runtimes pass whole numbers from one to the other."""
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
def test_exported_they_find_the_same(small_network, maps, runtime, tmp_path):
    library = pytest.importorskip(runtime)
    for name in ('onnx', 'onnxscript'):
        pytest.importorskip(name)
    path = tmp_path / 'model.onnx'
    torch.onnx.export(small_network, (maps,), path, dynamo=True, verbose=False, opset_version=18)
    if runtime == 'onnxruntime':
        session = library.InferenceSession(path)
        (found,) = session.run(None, {session.get_inputs()[0].name: maps.numpy()})
    else:
        options = {'INFERENCE_PRECISION_HINT': 'f32'}
        found = library.Core().compile_model(path, 'CPU', options)(maps.numpy())[0]
    wanted = small_network(maps).numpy()
    # Sums that lie between two whole numbers may be rounded to the other one.
    step = float(small_network[2].scale) * float(small_network[2].weight_scale.max()) * 63
    assert np.abs(found - wanted).max() <= 2 * step
    assert np.abs(found - wanted).mean() <= 0.05 * step


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


def test_a_backbone_takes_the_same_weights_and_finds_nearly_the_same(weights, images):
    backbone, whole = Backbone('squeezenet1_1'), Backbone('squeezenet1_1', int8=True)
    for one in (backbone, whole):
        one.load_pretrained(weights)
    with observing(whole):
        whole(images)
    assert relative_error(whole(images), backbone(images)) < 0.1
    assert not any(parameter.requires_grad for parameter in whole.parameters())
    assert torch.equal(copy.deepcopy(whole)(images), whole(images))


def test_a_backbone_is_saved_with_what_it_has_watched(weights, images):
    whole, other = (Backbone('squeezenet1_1', int8=True) for _ in range(2))
    whole.load_pretrained(weights)
    with observing(whole):
        whole(images)
    other.load_state_dict(whole.state_dict())
    assert torch.equal(other(images), whole(images))


def test_batch_normalisations_are_folded_before(images):
    torch.manual_seed(0)
    whole = Backbone('resnet18', levels=('layer1',), int8=True)
    assert not any(isinstance(one, nn.BatchNorm2d) for one in whole.modules())
    whole(images)


# A transformer, and a network of convolutions of timm's own.
@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'resnetv2_50x1_bit'])
def test_there_is_no_int8_without_convolutions_that_can_be_replaced(name):
    pytest.importorskip('timm')
    with pytest.raises(
        BackboneError, match='cannot be quantised to int8: choose a convolutional network'
    ):
        Backbone(f'timm/{name}', int8=True)
