# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""8-bit images are resized by the same rule as maps, to integer grey levels."""

from flow_anomaly_ros.runtime.image_resize import resize_image, resize_levels
import numpy as np
import pytest
import torch


@pytest.mark.parametrize('channels', [(), (3,)])
@pytest.mark.parametrize(
    'size', [(24, 32), (12, 16), (6, 8), (8, 32), (10, 13), (24, 16), (48, 64), (37, 50)], ids=str
)
def test_an_array_and_a_tensor_of_grey_levels_are_resized_alike(size, channels):
    image = np.random.default_rng(0).integers(0, 256, (24, 32, *channels), dtype=np.uint8)
    maps = torch.from_numpy(image.reshape(24, 32, -1)).permute(2, 0, 1)[None].float()
    expected = resize_levels(maps, size)[0].permute(1, 2, 0).numpy().reshape(*size, *channels)
    resized = resize_image(image, size)
    assert resized.dtype == np.uint8
    difference = resized.astype(float) - expected
    if (24 % size[0], 32 % size[1]) == (0, 0):
        assert not difference.any()
    # PyTorch's kernels for uint8 round their weights too.
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.05
