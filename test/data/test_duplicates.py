# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Images that show the same part as another one are found, others are not."""

from flow_anomaly_ros.data.duplicates import find_duplicates, signature
from flow_anomaly_ros.data.generated import generate_part
import numpy as np
import pytest


def found_among(images):
    return find_duplicates([signature(image) for image in images])


@pytest.fixture(scope='module')
def parts():
    return [generate_part(seed, 256)[0] for seed in range(10)]


@pytest.mark.parametrize('noise', [0, 2, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_frames_of_the_same_part_are_found(parts, noise, dtype):
    generator = np.random.default_rng(0)
    scale = np.iinfo(dtype).max // 255

    def frame(part):
        noisy = part + generator.normal(0, noise, part.shape)
        return (noisy.clip(0, 255) * scale).astype(dtype)

    images = [frame(parts[index]) for index in (0, 1, 2, 1, 3, 4, 0, 5, 0)]
    assert found_among(images) == {3: 1, 6: 0, 8: 0}


def test_different_parts_are_kept(parts):
    assert found_among(parts) == {}
    assert found_among([part[..., 0] for part in parts]) == {}


@pytest.mark.parametrize('count', [0, 1])
def test_one_image_has_no_duplicate(parts, count):
    assert found_among(parts[:count]) == {}


def test_copies_of_one_image_count_once(parts):
    assert found_among([parts[0]] * 4) == {1: 0, 2: 0, 3: 0}
