# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Image files as a sequence with a cache of limited size."""

from flow_anomaly_ros.data import image_files
from flow_anomaly_ros.data.image_files import ImageCache, ImageFiles
from flow_anomaly_ros.data.images import ImageReadError, write_image
import numpy as np
import pytest


@pytest.fixture
def paths(tmp_path):
    for number in range(4):
        write_image(tmp_path / f'{number}.png', np.full((10, 10), number, np.uint8))
    return sorted(tmp_path.iterdir())


def test_images_have_the_order_of_their_paths(paths):
    images = ImageFiles(paths, ImageCache())
    assert [image[0, 0] for image in images] == [0, 1, 2, 3]
    assert [image[0, 0] for image in images[1:3]] == [1, 2]
    assert images[-1].shape == (10, 10)
    assert len(images) == 4


def test_cached_images_are_read_once_and_the_others_on_each_access(paths, monkeypatch):
    read = []
    original = image_files.read_image
    monkeypatch.setattr(image_files, 'CACHE_BYTES', 250)
    monkeypatch.setattr(image_files, 'read_image', lambda path: read.append(path) or original(path))
    images = ImageFiles(paths, ImageCache())
    for _ in range(3):
        assert [image[0, 0] for image in images] == [0, 1, 2, 3]
    assert [read.count(path) for path in paths] == [1, 1, 3, 3]


def test_a_file_that_has_been_deleted_is_reported(paths, monkeypatch):
    monkeypatch.setattr(image_files, 'CACHE_BYTES', 0)
    images = ImageFiles(paths, ImageCache())
    assert images[2][0, 0] == 2
    paths[2].unlink()
    with pytest.raises(ImageReadError, match=r'2\.png'):
        images[2]
