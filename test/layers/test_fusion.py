# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Each scale is added its source scales, resized by the selected method."""

from flow_anomaly_ros.layers.fusion import adjacent_sources, fixed_sources, Fusion
from flow_anomaly_ros.layers.resample import DOWNSAMPLINGS, UPSAMPLINGS
import pytest
import torch

SIZES = [(8, 6), (4, 3), (2, 2)]


def constant_maps():
    """Fill each scale with its own power of ten, so that a sum shows which scales it contains."""
    return [torch.full((1, 2, *size), 10.0**index) for index, size in enumerate(SIZES)]


@pytest.mark.parametrize(
    ('sources', 'sums'),
    [
        (adjacent_sources(3), [11, 111, 110]),
        (fixed_sources(3, (2,)), [101, 110, 100]),
        (fixed_sources(3, (0, 2)), [101, 111, 101]),
        (fixed_sources(3, ()), [1, 10, 100]),
    ],
)
def test_each_scale_is_summed_with_its_sources(sources, sums):
    fused = Fusion(sources)(constant_maps())
    assert [tuple(x.shape[2:]) for x in fused] == SIZES
    for maps, expected in zip(fused, sums, strict=True):
        torch.testing.assert_close(maps, torch.full_like(maps, expected))


def test_larger_scales_shrink_by_the_selected_method():
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    coarse = torch.zeros(1, 1, 2, 2)
    corner = {
        name: Fusion(fixed_sources(2, (0,)), downsampling=name)([fine, coarse])[1][
            0, 0, 0, 0
        ].item()
        for name in DOWNSAMPLINGS
    }
    assert corner['average'] == pytest.approx(2.5)
    assert corner['max'] == 5
    assert corner['nearest'] in (0, 1, 4, 5)


def test_smaller_scales_grow_by_the_selected_method():
    fine, coarse = torch.zeros(1, 1, 8, 8), torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    grown = {
        name: Fusion(fixed_sources(2, (1,)), upsampling=name)([fine, coarse])[0]
        for name in UPSAMPLINGS
    }
    assert set(grown['nearest'].unique().tolist()) == {0.0, 1.0}
    assert grown['bilinear'].unique().numel() > 4
    assert grown['bicubic'].min() < 0
