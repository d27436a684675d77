# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Camera images become the bytes that exported models take."""

from flow_anomaly_ros.runtime.preprocess import max_value_of, to_rgb, to_tensor
import numpy as np
import pytest
import torch

LEVELS = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('off', [-100, 0, 100])
def test_16_bit_values_are_rounded_to_the_nearest_8_bit_value(channels, off):
    """White is 65535 in one and 255 in the other: a level is 257 wide."""
    deep = (257 * LEVELS + off).clip(0, 65535).astype(np.uint16)
    image = deep if channels == 1 else np.stack([deep] * 3, axis=-1)
    expected = np.stack([LEVELS] * 3, axis=-1)
    found = to_rgb(image, (16, 16))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
def test_images_of_lower_bit_depth_in_16_bits_are_scaled_by_their_maximum_value(bits):
    max_value = 2**bits - 1
    deep = np.round(LEVELS * (max_value / 255)).astype(np.uint16)
    assert max_value_of(deep) == max_value
    np.testing.assert_array_equal(to_rgb(deep, (16, 16), max_value)[..., 0], LEVELS)
    cpu = torch.device('cpu')
    of_bytes = to_tensor(LEVELS.astype(np.uint8), 1, (16, 16), cpu)
    found = to_tensor(deep, 1, (16, 16), cpu, max_value)
    torch.testing.assert_close(found, of_bytes, atol=0.5 / max_value, rtol=0)
    brighter = np.full((16, 16), 65535, np.uint16)
    assert (to_tensor(brighter, 1, (16, 16), cpu, max_value) == 1).all()
    assert (to_rgb(brighter, (16, 16), max_value) == 255).all()


def test_8_bit_images_do_not_limit_the_maximum_value():
    assert max_value_of(LEVELS.astype(np.uint8)) == 65535
