# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Datasets are listed and loaded; each error is reported in one line."""

from flow_anomaly_ros.data.folder import load_good_images, load_mask, read_folder, Sample
from flow_anomaly_ros.data.images import ImageReadError, write_image
import numpy as np
import pytest


def add_image(path, size=(8, 10), value=100, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full(size, value, dtype))
    return path


def fill(folder, count):
    for number in range(count):
        add_image(folder / f'{number:03d}.png', value=number)


def refusal(call, *args, **kwargs):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the callers check the message
        call(*args, **kwargs)
    message = str(caught.value)
    assert '\n' not in message
    return message


@pytest.fixture
def mvtec(tmp_path):
    fill(tmp_path / 'train/good', 12)
    fill(tmp_path / 'test/good', 2)
    fill(tmp_path / 'test/dent', 2)
    mask = np.zeros((8, 10), np.uint8)
    mask[2:4, 4:6] = 255
    (tmp_path / 'ground_truth/dent').mkdir(parents=True)
    write_image(tmp_path / 'ground_truth/dent/000_mask.png', mask)
    return tmp_path


def test_the_mvtec_layout_is_read(mvtec):
    folder = read_folder(mvtec)
    assert folder.root == mvtec
    assert [path.name for path in folder.train] == [f'{number:03d}.png' for number in range(12)]
    assert [(sample.label, sample.path.name, sample.is_defect) for sample in folder.test] == [
        ('dent', '000.png', True),
        ('dent', '001.png', True),
        ('good', '000.png', False),
        ('good', '001.png', False),
    ]
    masks = [sample.mask_path for sample in folder.test]
    assert masks == [mvtec / 'ground_truth/dent/000_mask.png', None, None, None]


def test_a_plain_folder_contains_good_parts_only(tmp_path):
    fill(tmp_path, 3)
    folder = read_folder(str(tmp_path))
    assert len(folder.train) == 3
    assert folder.test == ()


@pytest.mark.parametrize('half', ['train/good', 'test/good'])
def test_the_train_or_test_folder_may_be_missing(tmp_path, half):
    fill(tmp_path / half, 1)
    folder = read_folder(tmp_path)
    assert len(folder.train) + len(folder.test) == 1


def test_every_visible_file_counts_as_an_image_except_documents(mvtec):
    for name in ('.DS_Store', 'Thumbs.db', 'readme.txt', 'NOTES.md', 'LICENSE', 'report.csv'):
        (mvtec / 'train/good' / name).touch()
    assert [path.name for path in read_folder(mvtec).train][12:] == ['report.csv']


def test_a_missing_folder_is_refused(tmp_path):
    message = refusal(read_folder, tmp_path / 'absent')
    assert 'absent does not exist' in message
    assert 'train/good/' in message


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    assert 'is a file' in refusal(read_folder, add_image(tmp_path / 'part.png'))


def test_a_folder_of_neither_layout_is_refused(tmp_path):
    fill(tmp_path / 'subfolder', 2)
    message = refusal(read_folder, tmp_path)
    assert 'no images' in message
    assert 'train/good/' in message


def test_a_layout_without_images_is_refused(tmp_path):
    (tmp_path / 'train/good').mkdir(parents=True)
    assert 'no images' in refusal(read_folder, tmp_path)


def test_all_good_images_are_loaded_in_order(mvtec):
    good = load_good_images(read_folder(mvtec))
    assert [image[0, 0] for image in good.images] == list(range(12))
    assert [path.name for path in good.paths] == [f'{number:03d}.png' for number in range(12)]
    assert good.skipped == ()


def test_the_seed_determines_the_selected_images(mvtec):
    folder = read_folder(mvtec)
    selections = [load_good_images(folder, max_images=5, seed=seed).paths for seed in (1, 1, 2)]
    assert selections[0] == selections[1] != selections[2]
    for paths in selections:
        assert len(set(paths)) == 5
        assert list(paths) == sorted(paths)


def test_max_images_may_exceed_the_number_of_images(mvtec):
    assert len(load_good_images(read_folder(mvtec), max_images=100).images) == 12


def test_unreadable_files_are_reported_and_replaced(mvtec):
    for number in range(4):
        (mvtec / f'train/good/{number:03d}.png').write_text('no image')
    (mvtec / 'train/good/report.csv').write_text('1,2')
    good = load_good_images(read_folder(mvtec), max_images=8)
    assert len(good.images) == 8
    assert all(image[0, 0] >= 4 for image in good.images)
    assert len(load_good_images(read_folder(mvtec)).skipped) == 5
    assert all('cannot read image' in line and '\n' not in line for line in good.skipped)


@pytest.mark.parametrize('max_images', [None, 1])
def test_strict_refuses_any_unreadable_file(mvtec, max_images):
    for name in ('003.png', '007.png'):
        (mvtec / 'train/good' / name).write_text('no image')
    message = refusal(load_good_images, read_folder(mvtec), max_images, strict=True)
    assert '2 of 12' in message
    assert '003.png, 007.png' in message


def test_strict_loads_a_clean_folder(mvtec):
    assert len(load_good_images(read_folder(mvtec), max_images=3, strict=True).images) == 3


def test_a_folder_without_readable_files_is_refused(tmp_path):
    (tmp_path / 'part.png').touch()
    message = refusal(load_good_images, read_folder(tmp_path))
    assert 'none of the 1 files' in message
    assert 'part.png: the file is empty' in message


def test_a_dataset_without_good_parts_has_nothing_to_load(tmp_path):
    fill(tmp_path / 'test/dent', 1)
    assert 'train/good/' in refusal(load_good_images, read_folder(tmp_path))


def test_max_images_must_be_positive(mvtec):
    assert 'max_images is 0' in refusal(load_good_images, read_folder(mvtec), max_images=0)


@pytest.mark.parametrize(
    ('change', 'description'),
    [
        ({'size': (10, 8)}, '1 of 8x10 grey uint8'),
        ({'size': (8, 10, 3)}, '1 of 10x8 RGB uint8'),
        ({'dtype': np.uint16}, '1 of 10x8 grey uint16'),
    ],
)
def test_images_of_different_formats_are_counted_and_an_example_is_named(
    mvtec, change, description
):
    path = add_image(mvtec / 'train/good/005.png', **change)
    message = refusal(load_good_images, read_folder(mvtec))
    assert '11 of 10x8 grey uint8' in message
    assert description in message
    assert str(path) in message


def test_the_mask_of_a_defect_is_resized(mvtec):
    sample = read_folder(mvtec).test[0]
    expected = np.zeros((16, 20), bool)
    expected[4:8, 8:12] = True
    np.testing.assert_array_equal(load_mask(sample, (16, 20)), expected)
    assert load_mask(sample, (8, 10)).sum() == 4


def test_a_mask_may_be_faint_and_in_colour(tmp_path):
    stored = np.zeros((8, 10, 3), np.uint8)
    stored[1, 2] = (0, 0, 1)
    write_image(tmp_path / '000_mask.png', stored)
    mask = load_mask(Sample(tmp_path / '000.png', 'dent', tmp_path / '000_mask.png'), (8, 10))
    assert mask.dtype == bool
    assert np.argwhere(mask).tolist() == [[1, 2]]


def test_the_mask_of_a_good_part_is_empty_and_that_of_an_unmarked_defect_is_unknown(mvtec):
    _, unmarked, good, _ = read_folder(mvtec).test
    assert load_mask(unmarked, (8, 10)) is None
    assert load_mask(good, (4, 5)).shape == (4, 5)
    assert not load_mask(good, (4, 5)).any()


def test_a_damaged_mask_is_reported(mvtec):
    sample = read_folder(mvtec).test[0]
    sample.mask_path.write_text('no image')
    with pytest.raises(ImageReadError, match=r'000_mask\.png'):
        load_mask(sample, (8, 10))
