# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Resizing keeps the mean of a map and hides no defect, however thin."""

from flow_anomaly_ros.layers.resample import resize
import pytest
import torch

INTEGER = [((24, 36), (12, 18)), ((24, 36), (8, 9)), ((45, 35), (9, 5)), ((12, 12), (12, 4))]
FRACTIONAL = [((24, 36), (9, 13)), ((45, 35), (22, 17)), ((13, 17), (12, 5))]
GROWING = [((5, 7), (10, 14)), ((5, 7), (13, 9)), ((1, 1), (3, 4))]
MIXED = [((12, 5), (6, 10)), ((5, 12), (7, 7))]


@pytest.mark.parametrize(('before', 'after'), INTEGER + FRACTIONAL)
def test_mean_is_kept_when_shrinking(before, after):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(8, 2, *before, generator=generator)
    shrunk = resize(maps, after)
    assert shrunk.shape[-2:] == after
    # With a fractional factor the border has a slightly different weight.
    tolerance = 1e-6 if (before, after) in INTEGER else 0.02
    torch.testing.assert_close(shrunk.mean((-2, -1)), maps.mean((-2, -1)), atol=tolerance, rtol=0)


@pytest.mark.parametrize(('before', 'after'), INTEGER + FRACTIONAL + GROWING + MIXED)
def test_a_constant_stays_constant(before, after):
    resized = resize(torch.full((2, 3, *before), 0.7), after)
    torch.testing.assert_close(resized, torch.full((2, 3, *after), 0.7))


@pytest.mark.parametrize('width', [32, 21, 16, 13, 8, 5])
def test_a_line_one_pixel_wide_shows_at_every_position(width):
    lines = torch.eye(64)[:, None, None].expand(-1, 1, 64, -1)
    for images in (lines, lines.transpose(-2, -1)):
        brightest = resize(images, (width, width)).amax((1, 2, 3))
        assert brightest.min() > 0.4 * width / 64


def test_enlarging_interpolates():
    grown = resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    torch.testing.assert_close(grown.flatten(), torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_resizing_to_the_same_size_changes_nothing():
    maps = torch.rand(2, 3, 7, 5)
    assert torch.equal(resize(maps, (7, 5)), maps)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_maps_in_half_precision_can_shrink(dtype):
    maps = torch.rand(1, 2, 12, 17)
    with torch.autocast('cpu', dtype):
        resized = resize(maps.to(dtype), (7, 9))
    torch.testing.assert_close(resized, resize(maps, (7, 9)), atol=0.01, rtol=0)
