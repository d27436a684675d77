# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One matrix per axis gives the result of averaging, resizing and smoothing in turn."""

import itertools
import math

from flow_anomaly_ros.layers.resample import (
    average_and_resize,
    DOWNSAMPLINGS,
    resample,
    resize,
    resize_and_smooth,
    size_of,
    smooth,
    UPSAMPLINGS,
)
import pytest
import torch
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

BEFORE = [(24, 36), (45, 35), (5, 7), (32, 32)]
AFTER = [(24, 36), (12, 18), (8, 9), (9, 13), (50, 20), (64, 64), (7, 7)]


def blurred(maps, sigma):
    radius = min(math.ceil(3 * sigma), min(size_of(maps)) - 1)
    return gaussian_blur(maps, [2 * radius + 1] * 2, [sigma] * 2) if sigma else maps


@pytest.mark.parametrize(('before', 'after'), itertools.product(BEFORE, AFTER), ids=str)
def test_smooth_at_equals_resampling_followed_by_smoothing(before, after):
    maps = torch.rand(2, 3, *before)
    for up, down, sigma in itertools.product(UPSAMPLINGS, DOWNSAMPLINGS, (0, 1.5, 4.0)):
        expected = blurred(resample(maps, after, up, down), sigma)
        smoothed = resize_and_smooth(maps, after, sigma, up, down)
        torch.testing.assert_close(smoothed, expected, atol=1e-5, rtol=0, msg=f'{up} {down}')


@pytest.mark.parametrize(('before', 'after'), itertools.product(BEFORE, AFTER), ids=str)
def test_average_at_equals_averaging_followed_by_resizing(before, after):
    maps = torch.rand(2, 3, *before)
    for window in (1, 3, 5):
        averaged = functional.avg_pool2d(maps, window, 1, window // 2, count_include_pad=False)
        torch.testing.assert_close(average_and_resize(maps, after, window), resize(averaged, after))


def test_maps_are_sampled_an_offset_behind_their_places():
    maps = torch.rand(1, 2, 6, 7)
    larger = resize_and_smooth(maps, (24, 28), 0)
    moved = resize_and_smooth(maps, (24, 28), 0, offset=(3, -2))
    torch.testing.assert_close(moved[..., :-3, 2:], larger[..., 3:, :-2])
    torch.testing.assert_close(moved[..., -3:, 2:], larger[..., -1:, :-2].expand(-1, -1, 3, -1))
    between = resize_and_smooth(maps, (24, 28), 0, offset=(0.25, 0))
    torch.testing.assert_close(
        between[..., :-1, :], torch.lerp(larger, larger.roll(-1, 2), 0.25)[..., :-1, :]
    )


def test_channels_last_maps_give_the_same_result():
    maps = torch.rand(2, 3, 9, 11)
    permuted = maps.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        resize_and_smooth(permuted, (20, 30), 2.0), resize_and_smooth(maps, (20, 30), 2.0)
    )


def test_matrices_made_in_inference_mode_serve_training():
    with torch.inference_mode():
        smooth(torch.rand(1, 1, 17, 19), 1.25)
    maps = torch.rand(1, 1, 17, 19, requires_grad=True)
    smooth(maps, 1.25).square().sum().backward()
    assert maps.grad.abs().sum() > 0


def test_double_precision_is_kept_and_autocast_does_not_reduce_it():
    maps = torch.rand(1, 1, 12, 12)
    assert smooth(maps.double(), 1.0).dtype == torch.float64
    with torch.autocast('cpu', torch.bfloat16):
        reduced = smooth(maps, 1.0)
    assert torch.equal(reduced, smooth(maps, 1.0))
