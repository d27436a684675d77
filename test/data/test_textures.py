# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Textures that pseudo anomalies are made of."""

from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.data.textures import generated, of_folder, value_noise
import numpy as np
import pytest
import torch

SIZE = (30, 44)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('channels', [1, 3])
def test_generated_textures_differ_and_are_images(channels):
    textures = [generated(channels, SIZE, generator(seed)) for seed in range(20)]
    for texture in textures:
        assert tuple(texture.shape) == (channels, *SIZE)
        assert texture.min() >= 0
        assert texture.max() <= 1
    assert len({round(texture.mean().item(), 6) for texture in textures}) == 20
    assert sum(texture.std() > 0.02 for texture in textures) >= 15


def test_the_same_choices_make_the_same_texture():
    assert torch.equal(generated(3, SIZE, generator(4)), generated(3, SIZE, generator(4)))


@pytest.mark.parametrize('cell', [1.0, 5.3, 100.0])
def test_noise_is_as_smooth_as_its_cells_are_large(cell):
    noise = value_noise(SIZE, cell, generator())
    assert tuple(noise.shape) == SIZE
    assert 0 <= noise.min() < noise.max() <= 1
    assert noise.diff(dim=0).abs().max() <= 1.05 / cell


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one red and one grey of 16 bits, in folders of their own."""
    red = np.zeros((20, 90, 3), np.uint8)
    red[..., 0] = 255
    for name, image in {
        'banded/red': red,
        'dotted/grey': np.full((80, 80), 32768, np.uint16),
    }.items():
        (tmp_path / name).parent.mkdir()
        write_image(tmp_path / f'{name}.png', image)
    return tmp_path


def test_textures_of_a_folder_are_cut_from_its_pictures(folder):
    texture = of_folder(folder)
    cuts = [texture(3, SIZE, generator(seed)) for seed in range(20)]
    colours = {tuple(round(x, 2) for x in cut.mean((1, 2)).tolist()) for cut in cuts}
    assert colours == {(1.0, 0.0, 0.0), (0.5, 0.5, 0.5)}
    assert {tuple(cut.shape) for cut in cuts} == {(3, *SIZE)}


def test_textures_of_grey_images_are_grey(folder):
    assert tuple(of_folder(folder)(1, SIZE, generator()).shape) == (1, *SIZE)


def test_folders_that_are_of_no_use_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match='no folder of textures'):
        of_folder(tmp_path / 'missing')
    with pytest.raises(ValueError, match='no pictures in the folder'):
        of_folder(tmp_path)
    (tmp_path / 'broken.png').write_text('no picture')
    with pytest.raises(ValueError, match=r'broken\.png'):
        of_folder(tmp_path)
