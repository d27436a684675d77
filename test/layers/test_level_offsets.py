# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Changes of features are drawn where the image has changed, whatever the network looks at."""

from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.level_offsets import measure_level_offsets
from flow_anomaly_ros.layers.resample import resize_and_smooth
import pytest
import torch
from torch.nn import functional


def blocks(stride):
    """Make blocks of pixels, which lie where they belong."""
    return lambda images: functional.pixel_unshuffle(images, stride)


def moved(extract, down, right):
    """Look at pixels above and to the left."""

    def extract_moved(images):
        return extract(functional.pad(images, (right, -right, down, -down), mode='replicate'))

    return extract_moved


@pytest.mark.parametrize(('down', 'right'), [(0, 0), (3, 5), (-2, 1)])
def test_the_offset_of_what_is_looked_at_is_measured(images, down, right):
    extract = moved(blocks(4), down, right)
    offsets = measure_level_offsets(lambda x: [extract(x)], images, [4])
    assert offsets.tolist() == [pytest.approx([down, right], abs=0.5)]


def test_features_that_do_not_change_have_no_offset(images):
    offsets = measure_level_offsets(lambda x: [0 * blocks(8)(x)], images, [8])
    assert offsets.tolist() == [[0, 0]]


@pytest.mark.parametrize('side', [5, 20, 300])
def test_images_of_any_size_are_measured(side):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, side, side + 7, generator=generator)
    offsets = measure_level_offsets(lambda x: [x], images, [1])
    assert offsets.abs().max() < 0.5


def test_a_small_change_everywhere_does_not_count():
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def extract(images):
        # As squeeze and excitation does.
        return [moved(blocks(4), 3, 3)(images) + images.mean((1, 2, 3), keepdim=True)]

    offsets = measure_level_offsets(extract, images, [4])
    assert offsets.tolist() == [pytest.approx([3, 3], abs=0.5)]


def test_random_numbers_of_the_training_are_left_alone(images):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    measure_level_offsets(lambda x: [x], images, [1])
    assert torch.equal(torch.rand(3), expected)


def test_a_change_is_drawn_where_it_is():
    # Weights of the pip package: networks with random ones look at what padding alone makes them.
    backbone = Backbone('efficientnet_lite0', stride=8, default_strides=(4, 8))
    backbone.load_pretrained(None)
    generator = torch.Generator().manual_seed(1)
    images = functional.interpolate(
        torch.rand(4, 3, 16, 16, generator=generator), size=(128, 128), mode='bicubic'
    ).clamp(0, 1)
    backbone.fit_level_offsets(images)
    (_, fine), (_, coarse) = backbone.level_offsets
    assert 1 < fine < 3 < 5 < coarse < 9
    changed = images.clone()
    changed[..., 60:66, 40:46] = 1 - changed[..., 60:66, 40:46]
    with torch.no_grad():
        difference = (backbone(changed) - backbone(images)).square().sum(1, keepdim=True)

    def error(offset):
        drawn = resize_and_smooth(difference, (128, 128), sigma=0, offset=offset).mean((0, 1))
        places = torch.arange(128.0)
        row, column = ((drawn.sum(1 - axis) * places).sum() / drawn.sum() for axis in (0, 1))
        return torch.hypot(row - 62.5, column - 42.5)

    assert error(backbone.offset) < 2.5
    assert error((0.0, 0.0)) > 4


def test_files_from_before_have_no_offsets(images):
    backbone = Backbone('resnet18', ('layer1',))
    state = backbone.state_dict()
    backbone.fit_level_offsets(images)
    del state['measured_offsets']
    backbone.load_state_dict(state)
    assert backbone.level_offsets == [(0, 0)]


def test_offsets_are_stored_with_the_weights(images):
    backbone, other = (Backbone('resnet18', ('layer1',)) for _ in range(2))
    backbone.fit_level_offsets(images)
    other.load_state_dict(backbone.state_dict())
    assert other.level_offsets == backbone.level_offsets != [(0, 0)]
