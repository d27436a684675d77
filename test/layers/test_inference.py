# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Prepacking, channels_last and copies for inference change outputs by rounding only."""

import contextlib

from flow_anomaly_ros.layers import inference
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.inference import (
    channels_last,
    is_channels_last,
    optimised_for_inference,
    prepack,
    PrepackedConv2d,
)
import pytest
import torch
from torch import nn

pytestmark = pytest.mark.skipif(
    not inference.can_prepack(), reason='this PyTorch has no oneDNN convolutions with activation'
)


def assert_packs(module, *sizes):
    """Check that prepacking changes outputs by rounding only, for inputs of several sizes."""
    batches = [torch.randn(size) for size in sizes]
    with torch.inference_mode():
        expected = [module(x) for x in batches]
        prepack(module)
        for _ in range(2):
            for x, expected_output in zip(batches, expected, strict=True):
                torch.testing.assert_close(module(x), expected_output, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    'convolution',
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(4, 6, (3, 1), padding=(2, 0), dilation=(2, 1)),
        nn.Conv2d(4, 8, 5, padding=2, groups=4),
        nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode='replicate'),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode='reflect'),
        nn.Conv2d(4, 6, 1),
    ],
    ids=str,
)
def test_a_prepacked_convolution_gives_the_same_output(convolution):
    module = nn.Sequential(convolution)
    assert_packs(module, (1, 4, 9, 8), (3, 4, 9, 8), (1, 4, 5, 12))
    assert isinstance(module[0], PrepackedConv2d)


@pytest.mark.parametrize(
    'activation', [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.2), nn.Sigmoid(), nn.GELU()], ids=str
)
def test_the_activation_after_a_convolution_is_fused_if_supported(activation):
    module = nn.Sequential(nn.Conv2d(4, 6, 3), activation, nn.Conv2d(6, 4, 1))
    assert_packs(module, (2, 4, 9, 8))
    is_fused = type(activation) in inference.ACTIVATIONS
    assert isinstance(module[1], nn.Identity if is_fused else type(activation))


class Branches(nn.Module):
    """The output of the first convolution has two users, that of the second has one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.activation = nn.ReLU()

    def forward(self, maps):
        first = self.first(maps)
        return first + self.activation(first) + self.activation(self.second(maps))


def test_in_a_graph_an_activation_is_fused_if_it_is_the_only_user():
    traced = torch.fx.symbolic_trace(Branches())
    assert_packs(nn.Sequential(traced), (2, 4, 9, 8))
    assert traced.first.activation == inference.NO_ACTIVATION
    assert traced.second.activation == ('relu', [])


class Repeats(nn.Module):
    """A convolution that is called twice, once with an activation after it."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)
        self.activation = nn.ReLU()

    def forward(self, maps):
        return self.convolution(self.activation(self.convolution(maps)))


def test_in_a_graph_no_activation_is_fused_with_a_convolution_called_twice():
    assert_packs(nn.Sequential(torch.fx.symbolic_trace(Repeats())), (2, 4, 9, 8))


def test_unsupported_modules_are_not_replaced():
    module = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding='same'), nn.ConvTranspose2d(4, 4, 2), nn.Conv2d(4, 4, 1).double()
    )
    types = [type(child) for child in module]
    prepack(module)
    assert [type(child) for child in module] == types


def test_prepacked_weights_are_kept_for_a_limited_number_of_shapes():
    module = nn.Sequential(nn.Conv2d(4, 4, 3))
    prepack(module)
    with torch.inference_mode():
        for side in range(4, 4 + 3 * inference.MAX_PACKED_SHAPES):
            module(torch.zeros(1, 4, side, side))
    assert len(module[0]._packed_weights) == inference.MAX_PACKED_SHAPES


def test_nothing_is_prepacked_without_the_operators(monkeypatch):
    monkeypatch.setattr(inference, 'can_prepack', lambda: False)
    module = nn.Sequential(nn.Conv2d(4, 4, 3))
    prepack(module)
    assert type(module[0]) is nn.Conv2d


def test_a_optimised_for_inference_takes_the_place_of_a_network_for_a_while():
    torch.manual_seed(0)
    parent = nn.Module()
    parent.network = Backbone('resnet18', levels=('layer1',))
    original, images = parent.network, torch.rand(1, 3, 32, 32)
    expected = original(images)
    with torch.no_grad(), optimised_for_inference(parent, 'network'):
        assert not any(isinstance(x, nn.BatchNorm2d) for x in parent.network.modules())
        torch.testing.assert_close(parent.network(images), expected, rtol=1e-4, atol=1e-5)
    assert parent.network is original
    with contextlib.suppress(KeyError), optimised_for_inference(parent, 'network'):
        raise KeyError
    assert parent.network is original
    assert torch.equal(original(images), expected)


@pytest.mark.parametrize('name', ['mobilenet_v2', 'efficientnet_lite0'])
def test_activations_of_whole_networks_are_fused(name):
    backbone = Backbone(name)
    inference.fuse_for_inference(nn.Sequential(backbone))
    prepack(backbone)
    called = {node.target for node in backbone.extractor.graph.nodes if node.op == 'call_module'}
    kinds = {type(backbone.extractor.get_submodule(target)) for target in called}
    assert PrepackedConv2d in kinds
    assert not kinds & {nn.BatchNorm2d, nn.ReLU6}


def test_maps_of_one_channel_do_not_count_as_channels_last():
    assert is_channels_last(channels_last(torch.zeros(2, 3, 4, 4)))
    assert not is_channels_last(torch.zeros(2, 3, 4, 4))
    assert not is_channels_last(channels_last(torch.zeros(2, 1, 4, 4)))
