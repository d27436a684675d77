# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Textures for synthetic anomalies, generated and from a folder."""

from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.data.textures import from_folder, generate, value_noise
import numpy as np
import pytest
import torch

SIZE = (30, 44)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('channels', [1, 3])
def test_generated_textures_are_images_and_differ(channels):
    textures = [generate(channels, SIZE, generator(seed)) for seed in range(20)]
    for texture in textures:
        assert tuple(texture.shape) == (channels, *SIZE)
        assert texture.min() >= 0
        assert texture.max() <= 1
    assert len({round(texture.mean().item(), 6) for texture in textures}) == 20
    assert sum(texture.std() > 0.02 for texture in textures) >= 15


def test_a_seed_reproduces_its_texture():
    assert torch.equal(generate(3, SIZE, generator(4)), generate(3, SIZE, generator(4)))


@pytest.mark.parametrize('cell', [1.0, 5.3, 100.0])
def test_larger_cells_make_smoother_noise(cell):
    noise = value_noise(SIZE, cell, generator())
    assert tuple(noise.shape) == SIZE
    assert 0 <= noise.min() < noise.max() <= 1
    assert noise.diff(dim=0).abs().max() <= 1.05 / cell


@pytest.fixture
def folder(tmp_path):
    """A red 8-bit image and a grey 16-bit image, each in its own subfolder."""
    red = np.zeros((20, 90, 3), np.uint8)
    red[..., 0] = 255
    for name, image in {
        'banded/red': red,
        'dotted/grey': np.full((80, 80), 32768, np.uint16),
    }.items():
        (tmp_path / name).parent.mkdir()
        write_image(tmp_path / f'{name}.png', image)
    return tmp_path


def test_textures_from_a_folder_are_crops_of_its_images(folder):
    texture = from_folder(folder)
    crops = [texture(3, SIZE, generator(seed)) for seed in range(20)]
    colours = {tuple(round(x, 2) for x in crop.mean((1, 2)).tolist()) for crop in crops}
    assert colours == {(1.0, 0.0, 0.0), (0.5, 0.5, 0.5)}
    assert {tuple(crop.shape) for crop in crops} == {(3, *SIZE)}


def test_textures_of_one_channel_are_grey(folder):
    assert tuple(from_folder(folder)(1, SIZE, generator()).shape) == (1, *SIZE)


def test_a_missing_an_empty_and_a_damaged_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'texture folder .* does not exist'):
        from_folder(tmp_path / 'missing')
    with pytest.raises(ValueError, match='has no images'):
        from_folder(tmp_path)
    (tmp_path / 'broken.png').write_text('not an image')
    with pytest.raises(ValueError, match=r'broken\.png'):
        from_folder(tmp_path)
