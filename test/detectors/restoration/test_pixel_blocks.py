# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pixel blocks are a permutation of the pixels with an exact inverse."""

from flow_anomaly_ros.detectors.restoration.pixel_blocks import PixelBlocks
import pytest
import torch


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('stride', [2, 4, 8])
@pytest.mark.parametrize('size', [(16, 24), (17, 23), (9, 16), (1, 1)])
def test_inverse_returns_the_same_image(size, stride, channels):
    blocks = PixelBlocks(channels, stride)
    images = torch.rand(2, channels, *size)
    features = blocks(images)
    assert tuple(features.shape) == (2, blocks.channels, *blocks.grid(size))
    assert torch.equal(blocks.inverse(features, size), images)


def test_each_pixel_belongs_to_one_position():
    blocks = PixelBlocks(3, 4)
    images = torch.zeros(1, 3, 12, 20)
    images[:, :, 6, 17] = 1
    rows, columns = blocks(images)[0].sum(0).nonzero(as_tuple=True)
    assert (rows.tolist(), columns.tolist()) == ([1], [4])


def test_incomplete_blocks_repeat_the_last_row_and_column():
    row = torch.arange(5.0).expand(1, 1, 3, 5)
    padded = PixelBlocks(1, 4).inverse(PixelBlocks(1, 4)(row), (4, 8))
    assert torch.equal(padded, torch.tensor([0.0, 1, 2, 3, 4, 4, 4, 4]).expand(1, 1, 4, 8))
