# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A backbone extracts the levels of a frozen network and names in one line what it cannot use."""

import copy
import sys

from flow_anomaly_ros.layers.backbone import Backbone, IMAGENET_MEAN, IMAGENET_STD
from flow_anomaly_ros.layers.inference import fuse_for_inference
from flow_anomaly_ros.layers.resample import resize, resize_and_smooth, size_of
import pytest
from safetensors.torch import save_file
import torch

SMALL = 'squeezenet1_1'


@pytest.mark.parametrize(
    ('name', 'levels', 'channels'),
    [
        ('resnet18', ('layer1', 'layer2', 'layer3'), 64 + 128 + 256),
        ('mobilenet_v2', ('features.3', 'features.6', 'features.13'), 24 + 32 + 96),
        (SMALL, ('features.4', 'features.7', 'features.12'), 128 + 256 + 512),
    ],
)
def test_default_levels_are_the_last_of_stride_4_8_and_16(name, levels, channels):
    backbone = Backbone(name)
    assert backbone.levels == levels
    assert backbone.channels == channels


@pytest.mark.parametrize('size', [(64, 32), (37, 51), (33, 65)])
def test_features_lie_on_the_grid_of_the_stride(backbone, size):
    features = backbone(torch.rand(1, 3, *size))
    assert tuple(features.shape) == (1, backbone.channels, *backbone.grid(size))


def test_features_equal_the_networks_activations_on_normalised_images(
    resnet, images, random_network, tmp_path
):
    network = random_network(1, 'resnet18')
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    resnet.load_pretrained(tmp_path / 'weights.pth')
    activations = []
    network.layer1.register_forward_hook(
        lambda _module, _inputs, output: activations.append(output)
    )
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        network((images - mean) / std)
        torch.testing.assert_close(resnet(images), activations[0])


def test_levels_are_averaged_over_their_neighbourhood(images):
    torch.manual_seed(0)
    averaging = Backbone('resnet18', ('layer1',), stride=4, aggregation=3)
    torch.manual_seed(0)
    plain = Backbone('resnet18', ('layer1',), stride=4)(images)
    averages = averaging(images)
    torch.testing.assert_close(averages[..., 3, 4], plain[..., 2:5, 3:6].mean((2, 3)))
    # A corner averages four positions and no zeros.
    torch.testing.assert_close(averages[..., 0, 0], plain[..., :2, :2].mean((2, 3)))


def test_levels_are_moved_onto_that_of_the_maps_stride():
    backbone = Backbone('resnet18', ('layer1', 'layer2', 'layer3'), stride=8)
    fine, middle, coarse = (
        torch.rand(1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.level_channels, backbone.level_strides, strict=True)
    )
    backbone.level_offsets = [(1.0, 1.0), (5.0, 5.0), (13.0, 5.0)]
    assert backbone.offset == (5.0, 5.0)
    merged = backbone.merge([fine, middle, coarse], (64, 96))
    grid = size_of(middle)
    expected = [
        # In positions of the map: -4 and 8 px.
        resize_and_smooth(fine, grid, sigma=0, offset=(-0.5, -0.5)),
        middle,
        resize_and_smooth(coarse, grid, sigma=0, offset=(1.0, 0.0)),
    ]
    torch.testing.assert_close(merged, torch.cat(expected, 1))


def test_levels_coarser_than_the_map_are_weighted(images):
    maps = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        maps.append(Backbone('resnet18', coarse_weight=weight)(images))
    plain, weighted = maps
    torch.testing.assert_close(weighted[:, : 64 + 128], plain[:, : 64 + 128])
    torch.testing.assert_close(weighted[:, 64 + 128 :], 0.25 * plain[:, 64 + 128 :])


def test_a_grey_image_gives_the_features_of_an_rgb_image_with_equal_channels(backbone, images):
    grey = images[:, :1]
    torch.testing.assert_close(backbone(grey), backbone(grey.repeat(1, 3, 1, 1)))


def test_train_mode_does_not_change_a_frozen_network(resnet, images):
    before = {key: value.clone() for key, value in resnet.state_dict().items()}
    assert resnet.train() is resnet
    resnet(images)
    assert not any(module.training for module in resnet.modules())
    assert not any(parameter.requires_grad for parameter in resnet.parameters())
    after = resnet.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_copy_is_frozen_too(resnet, images):
    twin = copy.deepcopy(resnet)
    assert not any(module.training for module in twin.modules())
    assert torch.equal(twin(images), resnet(images))
    twin.fuse_for_inference()
    torch.testing.assert_close(twin(images), resnet(images), rtol=1e-4, atol=1e-4)


def test_features_of_a_timm_network_equal_its_own(images, tmp_path):
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    backbone = Backbone('timm/convnext_atto')
    assert backbone.levels == ('stages.0', 'stages.1', 'stages.2')
    network = timm.create_model('convnext_atto', pretrained=False).eval()
    save_file(network.state_dict(), tmp_path / 'convnext_atto.safetensors')
    backbone.load_pretrained(tmp_path)
    pretrained_cfg = network.pretrained_cfg
    mean, std = (torch.tensor(pretrained_cfg[key])[:, None, None] for key in ('mean', 'std'))
    with torch.no_grad():
        expected = network.stages[1](network.stages[0](network.stem((images - mean) / std)))
    level = backbone(images)[:, 40:120]
    torch.testing.assert_close(level[:, :, :5, :7], expected)


def test_images_for_a_timm_network_are_normalised_with_its_own_statistics():
    pytest.importorskip('timm')
    mean = Backbone('timm/tf_mobilenetv3_small_minimal_100').mean.flatten()
    torch.testing.assert_close(mean, torch.tensor([0.5, 0.5, 0.5]))


def test_an_unknown_timm_model_is_refused(error_line):
    pytest.importorskip('timm')
    message = error_line(Backbone, 'timm/no_such_net')
    assert message == "unknown backbone 'timm/no_such_net': timm has no model of that name"


def test_the_error_without_timm_says_how_to_install_it(error_line, monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    assert 'pip install timm' in error_line(Backbone, 'timm/resnet18')


@pytest.mark.parametrize('name', ['no_such_net', '', 'fcn_resnet50'])
def test_an_unknown_name_is_refused(error_line, name):
    assert repr(name) in error_line(Backbone, name)


def test_an_unknown_level_is_refused(error_line):
    assert 'no_such_level' in error_line(Backbone, SMALL, ('features.4', 'no_such_level'))


def test_a_level_that_is_not_a_feature_map_is_refused(error_line):
    message = error_line(Backbone, SMALL, ('features.4', 'flatten'))
    assert 'level flatten of' in message
    assert 'not a 4-D feature map' in message


@pytest.mark.parametrize('name', ['vit_b_32', 'mnasnet0_5'])
def test_a_network_without_default_levels_is_refused(error_line, name):
    assert name in error_line(Backbone, name)


@pytest.mark.parametrize('name', ['deit_tiny_distilled_patch16_224', 'cait_xxs24_224'])
def test_a_transformer_gives_its_patch_tokens_as_maps(name, images, tmp_path):
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    backbone = Backbone(f'timm/{name}', ('blocks.1', 'blocks.3'))
    assert backbone.level_channels == [192, 192]
    network = timm.create_model(name, pretrained=False).eval()
    save_file(network.state_dict(), tmp_path / f'{name}.safetensors')
    backbone.load_pretrained(tmp_path)
    with torch.no_grad():
        first, last = backbone.extract(images)
        resized = resize(images, (224, 224))
        expected = network.forward_intermediates(
            (resized - backbone.mean) / backbone.std, indices=[3], intermediates_only=True
        )[0]
    assert tuple(first.shape) == (2, 192, 14, 14)
    torch.testing.assert_close(last, expected)
    # Blocks behind the deepest level are dropped.
    assert not any(key.startswith('network.blocks.4') for key in backbone.extractor.state_dict())


def test_the_default_level_of_a_transformer_is_at_two_thirds_of_its_depth(error_line):
    pytest.importorskip('timm')
    assert Backbone('timm/deit_tiny_patch16_224').levels == ('blocks.7',)
    message = error_line(Backbone, 'timm/deit_tiny_patch16_224', ('blocks.12',))
    assert 'has no level blocks.12: it has blocks.0 to blocks.11' in message


def test_fused_networks_stay_on_their_device():
    backbone = Backbone('efficientnet_lite0').to('meta')
    fuse_for_inference(torch.nn.Sequential(backbone))
    assert {x.device.type for x in backbone.extractor.state_dict().values()} == {'meta'}


@pytest.mark.parametrize(
    'name',
    ['mobilenet_v2', 'resnet18', SMALL, 'efficientnet_lite0', 'timm/vit_tiny_patch16_224'],
)
def test_fusing_changes_features_by_rounding_only(name):
    backbone = Backbone(name)
    images = torch.rand(2, 3, 64, 64)
    if 'vit' in name:
        images = torch.rand(1, 3, 224, 224)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        expected = backbone.extract(images)
        fuse_for_inference(torch.nn.Sequential(backbone))
        fused = backbone.extract(images)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())
    for level, expected_level in zip(fused, expected, strict=True):
        assert (level - expected_level).abs().max() <= 1e-5 * expected_level.abs().max()
