# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Resizing keeps brightness and hides no defect, however thin."""

from flow_anomaly_ros.layers.resample import resize, resize_image, resize_levels
import numpy as np
import pytest
import torch

WHOLE = [((24, 36), (12, 18)), ((24, 36), (8, 9)), ((45, 35), (9, 5)), ((12, 12), (12, 4))]
FRACTIONAL = [((24, 36), (9, 13)), ((45, 35), (22, 17)), ((13, 17), (12, 5))]
GROWING = [((5, 7), (10, 14)), ((5, 7), (13, 9)), ((1, 1), (3, 4))]
MIXED = [((12, 5), (6, 10)), ((5, 12), (7, 7))]


@pytest.mark.parametrize(('before', 'after'), WHOLE + FRACTIONAL)
def test_mean_is_kept_when_shrinking(before, after):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(8, 2, *before, generator=generator)
    shrunk = resize(maps, after)
    assert shrunk.shape[-2:] == after
    # Borders weigh slightly differently where the factor is no whole number.
    tolerance = 1e-6 if (before, after) in WHOLE else 0.02
    torch.testing.assert_close(shrunk.mean((-2, -1)), maps.mean((-2, -1)), atol=tolerance, rtol=0)


@pytest.mark.parametrize(('before', 'after'), WHOLE + FRACTIONAL + GROWING + MIXED)
def test_a_constant_stays_constant(before, after):
    resized = resize(torch.full((2, 3, *before), 0.7), after)
    torch.testing.assert_close(resized, torch.full((2, 3, *after), 0.7))


@pytest.mark.parametrize('width', [32, 21, 16, 13, 8, 5])
def test_a_line_of_one_pixel_shows_wherever_it_lies(width):
    lines = torch.eye(64)[:, None, None].expand(-1, 1, 64, -1)
    for images in (lines, lines.transpose(-2, -1)):
        brightest = resize(images, (width, width)).amax((1, 2, 3))
        assert brightest.min() > 0.4 * width / 64


def test_growth_interpolates():
    grown = resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    torch.testing.assert_close(grown.flatten(), torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_the_same_size_changes_nothing():
    maps = torch.rand(2, 3, 7, 5)
    assert torch.equal(resize(maps, (7, 5)), maps)


@pytest.mark.parametrize('channels', [(), (3,)])
@pytest.mark.parametrize(
    'size', [(24, 32), (12, 16), (6, 8), (8, 32), (10, 13), (24, 16), (48, 64), (37, 50)], ids=str
)
def test_an_image_in_whole_grey_levels_is_resized_like_a_map(size, channels):
    image = np.random.default_rng(0).integers(0, 256, (24, 32, *channels), dtype=np.uint8)
    maps = torch.from_numpy(image.reshape(24, 32, -1)).permute(2, 0, 1)[None].float()
    expected = resize_levels(maps, size)[0].permute(1, 2, 0).numpy().reshape(*size, *channels)
    resized = resize_image(image, size)
    assert resized.dtype == np.uint8
    difference = resized.astype(float) - expected
    if (24 % size[0], 32 % size[1]) == (0, 0):
        assert not difference.any()
    # torch's kernels for bytes round their weights too.
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.05


@pytest.mark.parametrize('kind', [torch.bfloat16, torch.float16], ids=str)
def test_maps_of_reduced_precision_shrink_too(kind):
    maps = torch.rand(1, 2, 12, 17)
    with torch.autocast('cpu', kind):
        resized = resize(maps.to(kind), (7, 9))
    torch.testing.assert_close(resized, resize(maps, (7, 9)), atol=0.01, rtol=0)
