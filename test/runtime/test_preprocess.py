# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Camera images become the bytes that exported models take."""

from flow_anomaly_ros.runtime.preprocess import to_rgb
import numpy as np
import pytest

LEVELS = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('off', [-100, 0, 100])
def test_sixteen_bits_become_the_nearest_eight(channels, off):
    """White is 65535 in one and 255 in the other: a level is 257 wide."""
    deep = (257 * LEVELS + off).clip(0, 65535).astype(np.uint16)
    image = deep if channels == 1 else np.stack([deep] * 3, axis=-1)
    expected = np.stack([LEVELS] * 3, axis=-1)
    found = to_rgb(image, (16, 16))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
