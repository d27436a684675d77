# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A folder that collects images of good parts."""

from flow_anomaly_ros.data.good_parts import GoodParts
from flow_anomaly_ros.data.images import read_image
import numpy as np
import pytest


def test_images_are_named_after_their_timestamps_and_stored_without_loss(tmp_path):
    parts = GoodParts(tmp_path / 'cell' / 'good')
    assert parts.count() == 0
    image = np.arange(24, dtype=np.uint16).reshape(4, 6) * 1000
    path = parts.add(image, 12 * 10**9 + 345)
    assert path.name == '12_000000345.png'
    np.testing.assert_array_equal(read_image(path), image)
    assert parts.count() == 1


def test_an_existing_image_is_not_overwritten(tmp_path):
    parts = GoodParts(tmp_path)
    path = parts.add(np.zeros((4, 6), np.uint8), 1)
    with pytest.raises(ValueError, match='is already in'):
        parts.add(np.ones((4, 6), np.uint8), 1)
    assert not read_image(path).any()


@pytest.mark.parametrize(
    'other',
    [np.zeros((6, 4), np.uint8), np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint16)],
    ids=['size', 'colour', 'depth'],
)
def test_an_image_of_another_format_is_refused(tmp_path, other):
    parts = GoodParts(tmp_path)
    first = parts.add(np.zeros((4, 6), np.uint8), 1)
    with pytest.raises(ValueError, match='are 6x4 px grey, 8 bit'):
        parts.add(other, 2)
    assert parts.count() == 1
    first.unlink()
    parts.add(other, 2)


def test_a_full_disk_is_reported_in_one_line(tmp_path, monkeypatch):
    def full_disk(path, _image):
        raise OSError(28, 'No space left on device', str(path))

    monkeypatch.setattr('flow_anomaly_ros.data.good_parts.write_image', full_disk)
    parts = GoodParts(tmp_path)
    with pytest.raises(ValueError, match=r'cannot write .*1\.png: No space left') as caught:
        parts.add(np.zeros((4, 6), np.uint8), 10**9 + 1)
    assert '\n' not in str(caught.value)
    assert parts.count() == 0
