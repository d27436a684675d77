# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Generated parts are reproducible, vary with the seed and have correct masks."""

import cv2
from flow_anomaly_ros.data.folder import load_good_images, load_mask, read_folder
from flow_anomaly_ros.data.generated import (
    Conditions,
    COVER,
    DEFECTS,
    FLANGE,
    generate_part,
    write_dataset,
)
from flow_anomaly_ros.data.images import read_image
import numpy as np
import pytest

SIZE = 64


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob('*.png')}


@pytest.mark.parametrize('size', [32, 64, 101, 256])
@pytest.mark.parametrize('defect', [None, *DEFECTS])
def test_every_size_and_defect_can_be_generated(size, defect):
    image, mask = generate_part(3, size, defect)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == bool
    assert mask.any() == (defect is not None)
    assert mask.mean() < 0.1


def test_good_parts_vary_slightly():
    first, again, other = (generate_part(seed, SIZE)[0].astype(int) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert 2 < np.abs(first - other).mean() < 25


@pytest.mark.parametrize('defect', DEFECTS)
@pytest.mark.parametrize('seed', range(8))
def test_the_mask_lies_where_the_images_differ(defect, seed):
    good, _ = generate_part(seed, 128)
    bad, mask = generate_part(seed, 128, defect)
    difference = np.abs(bad.astype(int) - good).max(axis=2)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    assert difference[~near].max() <= 6
    assert difference[mask].mean() > 5
    assert difference[mask].max() > 15


@pytest.mark.parametrize('defect', DEFECTS)
def test_defects_vary_with_the_seed(defect):
    masks = [generate_part(seed, SIZE, defect)[1] for seed in range(6)]
    assert len({mask.tobytes() for mask in masks}) > 2


@pytest.mark.parametrize(
    'conditions',
    [
        Conditions(shift=8, rotation=10),
        Conditions(light=20, exposure=0.2, slope=0.12),
        Conditions(marks=0.15),
        Conditions(grain=4),
        Conditions(types=(FLANGE, COVER)),
    ],
)
def test_good_parts_differ_more_under_harder_conditions(conditions):
    def spread(conditions):
        images = [generate_part(seed, SIZE, conditions=conditions)[0] for seed in range(8)]
        return np.stack(images).std(axis=0).mean()

    assert spread(conditions) > 1.2 * spread(Conditions())


def test_less_severe_defects_differ_less_from_the_good_part_at_the_same_place():
    good, _ = generate_part(0, SIZE)
    differences, masks = [], []
    for severity in (0.5, 1.0):
        image, mask = generate_part(0, SIZE, 'stain', Conditions(severity=severity))
        differences.append(np.abs(image.astype(int) - good)[mask].mean())
        masks.append(mask)
    assert differences[0] == pytest.approx(0.5 * differences[1], rel=0.1)
    np.testing.assert_array_equal(*masks)


def test_an_unknown_defect_and_a_tiny_size_are_refused():
    with pytest.raises(ValueError, match="unknown defect 'crack'; use one of scratch"):
        generate_part(0, SIZE, 'crack')
    with pytest.raises(ValueError, match='at least 32 pixels'):
        generate_part(0, 31)


def test_a_dataset_is_read_as_mvtec_layout(tmp_path):
    root = write_dataset(tmp_path / 'parts', train=3, good=2, per_defect=1, size=SIZE)
    folder = read_folder(root)
    good = load_good_images(folder, strict=True)
    assert len(good.images) == 3
    assert good.images[0].shape == (SIZE, SIZE, 3)
    assert sorted(sample.label for sample in folder.test) == sorted(['good', 'good', *DEFECTS])
    for sample in folder.test:
        mask = load_mask(sample, (SIZE, SIZE))
        assert mask is not None
        assert mask.any() == sample.is_defect


def test_all_images_of_a_dataset_differ(tmp_path):
    root = write_dataset(tmp_path, train=3, good=3, per_defect=2, size=SIZE)
    images = [read_image(path) for path in root.glob('t*/*/*.png')]
    assert len({image.tobytes() for image in images}) == 3 + 3 + 2 * len(DEFECTS)


def test_a_dataset_is_reproducible_and_depends_on_the_seed(tmp_path):
    counts = {'train': 2, 'good': 1, 'per_defect': 1, 'size': SIZE}
    first = files_of(write_dataset(tmp_path / 'a', **counts))
    assert files_of(write_dataset(tmp_path / 'a', **counts)) == first
    assert files_of(write_dataset(tmp_path / 'b', **counts)) == first
    assert files_of(write_dataset(tmp_path / 'c', **counts, seed=1)) != first


def test_larger_counts_do_not_change_the_other_images(tmp_path):
    small = files_of(write_dataset(tmp_path / 'a', train=1, good=1, per_defect=1, size=SIZE))
    large = files_of(write_dataset(tmp_path / 'b', train=3, good=2, per_defect=1, size=SIZE))
    assert small.items() <= large.items()


def test_a_folder_with_other_files_is_refused(tmp_path):
    other_file = tmp_path / 'train/good/holiday.png'
    other_file.parent.mkdir(parents=True)
    other_file.touch()
    with pytest.raises(ValueError, match=r'holiday\.png.*new or empty folder'):
        write_dataset(tmp_path, train=1, size=SIZE)
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == [other_file]


def test_negative_counts_are_refused(tmp_path):
    with pytest.raises(ValueError, match='must be 0 or more, not -1'):
        write_dataset(tmp_path, train=-1)
