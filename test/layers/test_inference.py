# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What makes a detector faster leaves what it says as it is."""

from flow_anomaly_ros.layers import inference
from flow_anomaly_ros.layers.inference import (
    channels_last,
    is_channels_last,
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
    """Packing changes no output by more than rounding, whatever size comes first."""
    batches = [torch.randn(size) for size in sizes]
    with torch.inference_mode():
        expected = [module(x) for x in batches]
        prepack(module)
        for _ in range(2):
            for x, wanted in zip(batches, expected, strict=True):
                torch.testing.assert_close(module(x), wanted, atol=1e-5, rtol=1e-5)


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
def test_packed_convolutions_do_what_the_plain_ones_did(convolution):
    module = nn.Sequential(convolution)
    assert_packs(module, (1, 4, 9, 8), (3, 4, 9, 8), (1, 4, 5, 12))
    assert isinstance(module[0], PrepackedConv2d)


@pytest.mark.parametrize(
    'activation', [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.2), nn.Sigmoid(), nn.GELU()], ids=str
)
def test_activations_that_come_next_are_part_of_it(activation):
    module = nn.Sequential(nn.Conv2d(4, 6, 3), activation, nn.Conv2d(6, 4, 1))
    assert_packs(module, (2, 4, 9, 8))
    is_part = type(activation) in inference.ACTIVATIONS
    assert isinstance(module[1], nn.Identity if is_part else type(activation))


class Branches(nn.Module):
    """A convolution that is read before its activation as well."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.activation = nn.ReLU()

    def forward(self, maps):
        one = self.first(maps)
        return one + self.activation(one) + self.activation(self.second(maps))


def test_in_a_graph_an_activation_is_part_of_what_it_alone_reads():
    traced = torch.fx.symbolic_trace(Branches())
    assert_packs(nn.Sequential(traced), (2, 4, 9, 8))
    assert traced.first.activation == inference.NO_ACTIVATION
    assert traced.second.activation == ('relu', [])


class Repeats(nn.Module):
    """A convolution that runs twice, once with an activation."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)
        self.activation = nn.ReLU()

    def forward(self, maps):
        return self.convolution(self.activation(self.convolution(maps)))


def test_in_a_graph_a_convolution_that_runs_twice_keeps_its_activation_apart():
    assert_packs(nn.Sequential(torch.fx.symbolic_trace(Repeats())), (2, 4, 9, 8))


def test_what_cannot_be_packed_stays():
    module = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding='same'), nn.ConvTranspose2d(4, 4, 2), nn.Conv2d(4, 4, 1).double()
    )
    kinds = [type(one) for one in module]
    prepack(module)
    assert [type(one) for one in module] == kinds


def test_layouts_of_many_sizes_do_not_pile_up():
    module = nn.Sequential(nn.Conv2d(4, 4, 3))
    prepack(module)
    with torch.inference_mode():
        for side in range(4, 4 + 3 * inference.MAX_LAYOUTS):
            module(torch.zeros(1, 4, side, side))
    assert len(module[0]._layouts) == inference.MAX_LAYOUTS


def test_without_the_operators_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(inference, 'can_prepack', lambda: False)
    module = nn.Sequential(nn.Conv2d(4, 4, 3))
    prepack(module)
    assert type(module[0]) is nn.Conv2d


def test_maps_of_one_channel_have_one_layout():
    assert is_channels_last(channels_last(torch.zeros(2, 3, 4, 4)))
    assert not is_channels_last(torch.zeros(2, 3, 4, 4))
    assert not is_channels_last(channels_last(torch.zeros(2, 1, 4, 4)))
