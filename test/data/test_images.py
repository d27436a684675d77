# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Images survive writing and reading; invalid files are refused in one line."""

import cv2
from flow_anomaly_ros.data.images import (
    IMAGE_SUFFIXES,
    ImageReadError,
    list_images,
    read_image,
    write_image,
)
import numpy as np
import pytest

LOSSLESS = ('.png', '.bmp', '.tif', '.tiff', '.webp')


def gradient(shape, dtype=np.uint8):
    """Make an image in which all channels, rows and columns differ."""
    values = np.arange(np.prod(shape)) * (np.iinfo(dtype).max // np.prod(shape))
    return values.reshape(shape).astype(dtype)


def refusal(path):
    with pytest.raises(ImageReadError) as caught:
        read_image(path)
    message = str(caught.value)
    assert str(path) in message
    assert '\n' not in message
    return message


@pytest.mark.parametrize('suffix', LOSSLESS)
def test_colour_images_survive_every_lossless_format(tmp_path, suffix):
    image = gradient((6, 9, 3))
    write_image(tmp_path / f'part{suffix}', image)
    np.testing.assert_array_equal(read_image(tmp_path / f'part{suffix}'), image)


@pytest.mark.parametrize('suffix', ['.jpg', '.jpeg', '.JPG'])
def test_jpeg_keeps_the_order_of_the_channels(tmp_path, suffix):
    image = np.full((16, 16, 3), (200, 100, 30), np.uint8)
    write_image(tmp_path / f'part{suffix}', image)
    assert np.abs(read_image(tmp_path / f'part{suffix}') - image.astype(int)).max() < 5


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
@pytest.mark.parametrize('shape', [(6, 9), (6, 9, 3)])
def test_16_bit_images_survive(tmp_path, suffix, shape):
    image = gradient(shape, np.uint16)
    write_image(tmp_path / f'part{suffix}', image)
    stored = read_image(tmp_path / f'part{suffix}')
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, image)


def test_a_grey_image_stays_grey(tmp_path):
    write_image(tmp_path / 'part.png', gradient((6, 9)))
    assert read_image(tmp_path / 'part.png').shape == (6, 9)


def test_an_alpha_channel_is_dropped(tmp_path):
    image = gradient((6, 9, 3))
    transparent = np.dstack([image[..., ::-1], np.zeros((6, 9), np.uint8)])
    cv2.imwrite(str(tmp_path / 'part.png'), transparent)
    np.testing.assert_array_equal(read_image(tmp_path / 'part.png'), image)


def test_paths_may_contain_spaces_and_non_ascii_letters(tmp_path):
    path = tmp_path / 'Prüfteil 零件 1.png'
    write_image(path, gradient((6, 9)))
    assert read_image(path).shape == (6, 9)


def test_a_non_contiguous_array_can_be_written(tmp_path):
    image = gradient((12, 18, 3))
    write_image(tmp_path / 'part.png', image[::2, 1:10])
    np.testing.assert_array_equal(read_image(tmp_path / 'part.png'), image[::2, 1:10])


def test_a_missing_file_is_refused(tmp_path):
    assert 'No such file' in refusal(tmp_path / 'absent.png')


def test_a_folder_is_refused(tmp_path):
    assert 'directory' in refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / 'part.png'
    path.touch()
    assert 'empty' in refusal(path)


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / 'part.png'
    path.write_text('no image')
    assert 'not an image' in refusal(path)


@pytest.mark.parametrize('suffix', IMAGE_SUFFIXES)
@pytest.mark.parametrize('kept', [0.1, 0.6, 0.97])
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
    path = tmp_path / f'part{suffix}'
    write_image(path, np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    refusal(path)


def test_a_truncated_jpeg_with_a_thumbnail_is_refused(tmp_path):
    path = tmp_path / 'part.jpg'
    write_image(path, gradient((40, 50, 3)))
    data = path.read_bytes()
    # A camera stores a thumbnail, itself a JPEG, in such a segment.
    comment = b'\xff\xfe' + (len(data) + 2).to_bytes(2, 'big') + data
    complete = data[:2] + comment + data[2:]
    path.write_bytes(complete)
    assert read_image(path).shape == (40, 50, 3)
    path.write_bytes(complete[:-20])
    assert 'truncated' in refusal(path)


def test_floating_point_pixels_are_refused(tmp_path):
    path = tmp_path / 'part.tiff'
    cv2.imwrite(str(path), np.zeros((6, 9), np.float32))
    assert 'float32' in refusal(path)


@pytest.mark.parametrize(
    ('name', 'image', 'reason'),
    [
        ('part.gif', gradient((6, 9)), "unknown suffix '.gif'"),
        ('part', gradient((6, 9)), 'unknown suffix'),
        ('absent/part.png', gradient((6, 9)), 'no folder'),
        ('part.jpg', gradient((6, 9), np.uint16), '8 bits only'),
        ('part.png', np.zeros((6, 9), np.float32), 'float32'),
        ('part.png', np.zeros((6, 9, 4), np.uint8), r'\(6, 9, 4\)'),
        ('part.png', np.zeros((0, 9), np.uint8), r'\(0, 9\)'),
    ],
)
def test_an_image_that_cannot_be_written_is_refused_and_leaves_no_file(
    tmp_path, name, image, reason
):
    with pytest.raises(ValueError, match=reason) as caught:
        write_image(tmp_path / name, image)
    assert '\n' not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_only_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'part.png'
    write_image(path, gradient((6, 9)))
    monkeypatch.setattr('pathlib.Path.replace', lambda *_: (_ for _ in ()).throw(OSError('full')))
    with pytest.raises(OSError, match='full'):
        write_image(path, np.zeros((6, 9), np.uint8))
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(read_image(path), gradient((6, 9)))


def test_the_list_is_sorted_and_contains_visible_images_only(tmp_path):
    for name in ('010.png', '002.PNG', '001.jpeg', '.hidden.png', 'notes.txt', 'script.py'):
        (tmp_path / name).touch()
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'folder.png' / '003.png').touch()
    assert [path.name for path in list_images(tmp_path)] == ['001.jpeg', '002.PNG', '010.png']
