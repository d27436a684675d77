# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Attention weights channels and positions by equations 6 to 8."""

from flow_anomaly_ros.detectors.cainnflow.attention import (
    BlockAttention,
    ChannelAttention,
    SpatialAttention,
)
import pytest
import torch


def sigmoid(value):
    return 1 / (1 + torch.exp(torch.tensor(-float(value))))


@pytest.fixture
def maps():
    return torch.randn(2, 8, 5, 6, generator=torch.Generator().manual_seed(0))


def test_channel_attention_adds_the_networks_outputs_for_means_and_maxima():
    attention = ChannelAttention(channels=2, reduction=2)
    first, _, last = attention.network
    with torch.no_grad():
        first.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
        last.weight.copy_(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    # Means 2 and 1, maxima 4 and 5: the hidden values are max(0, 2 - 1) and max(0, 4 - 5).
    maps = torch.tensor([[[[0.0, 4.0]], [[-3.0, 5.0]]]])
    weights = attention(maps)
    assert tuple(weights.shape) == (1, 2, 1, 1)
    torch.testing.assert_close(weights.flatten(), torch.stack([sigmoid(1), sigmoid(3)]))


def test_spatial_attention_convolves_means_and_maxima_over_channels():
    attention = SpatialAttention()
    with torch.no_grad():
        attention.convolution.weight.zero_()
        # The mean at the position, and twice the maximum three columns to the right.
        attention.convolution.weight[0, 0, 3, 3] = 1
        attention.convolution.weight[0, 1, 3, 6] = 2
    maps = torch.zeros(1, 2, 1, 4)
    maps[0, :, 0, 0] = torch.tensor([1.0, 3.0])
    maps[0, :, 0, 3] = torch.tensor([-1.0, 5.0])
    weights = attention(maps)
    expected = [sigmoid(2 + 2 * 5), sigmoid(0), sigmoid(0), sigmoid(2)]
    torch.testing.assert_close(weights, torch.stack(expected).view(1, 1, 1, 4))


def test_block_attention_applies_channel_attention_before_spatial_attention(maps):
    torch.manual_seed(0)
    block = BlockAttention(8, reduction=4)
    weighted = block.channel(maps) * maps
    assert torch.equal(block(maps), block.spatial(weighted) * weighted)


def test_few_channels_have_at_least_one_hidden_channel():
    attention = ChannelAttention(channels=4, reduction=16)
    assert tuple(attention(torch.randn(1, 4, 3, 3)).shape) == (1, 4, 1, 1)


def test_attention_only_attenuates(maps):
    torch.manual_seed(0)
    assert (BlockAttention(8, reduction=2)(maps).abs() < maps.abs()).all()
