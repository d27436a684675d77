# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Backbones take weights from files, stay frozen, and say in one line what they cannot use."""

import copy
from pathlib import Path
import sys
from urllib.error import URLError

from flow_anomaly_ros.layers.backbone import (
    Backbone,
    BackboneError,
    IMAGENET_MEAN,
    IMAGENET_STD,
)
from flow_anomaly_ros.layers.inference import fuse_for_inference
from flow_anomaly_ros.layers.resample import resize
import pytest
from safetensors.torch import save_file
import torch
import torchvision

SHARED_WEIGHTS = Path(__file__).resolve().parents[2].parent / 'shared' / 'weights'
FAST = 'squeezenet1_1'


def network(seed=0, name=FAST):
    torch.manual_seed(seed)
    return torchvision.models.get_model(name, weights=None).eval()


@pytest.fixture(scope='module')
def backbone():
    torch.manual_seed(0)
    return Backbone(FAST)


@pytest.fixture(scope='module')
def resnet():
    torch.manual_seed(0)
    return Backbone('resnet18', ('layer1',), stride=4)


@pytest.fixture
def images():
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


def refusal(call, *arguments):
    with pytest.raises(BackboneError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert '\n' not in message
    return message


@pytest.mark.parametrize(
    ('name', 'levels', 'channels'),
    [
        ('resnet18', ('layer1', 'layer2', 'layer3'), 64 + 128 + 256),
        ('mobilenet_v2', ('features.3', 'features.6', 'features.13'), 24 + 32 + 96),
        (FAST, ('features.4', 'features.7', 'features.12'), 128 + 256 + 512),
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


def test_features_are_the_networks_own_for_normalised_images(resnet, images, tmp_path):
    source = network(1, 'resnet18')
    torch.save(source.state_dict(), tmp_path / 'weights.pth')
    resnet.load_pretrained(tmp_path / 'weights.pth')
    seen = []
    source.layer1.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        source((images - mean) / std)
        torch.testing.assert_close(resnet(images), seen[0])


def test_levels_are_averaged_over_their_neighbourhood(images):
    torch.manual_seed(0)
    averaging = Backbone('resnet18', ('layer1',), stride=4, aggregation=3)
    torch.manual_seed(0)
    plain = Backbone('resnet18', ('layer1',), stride=4)(images)
    averages = averaging(images)
    torch.testing.assert_close(averages[..., 3, 4], plain[..., 2:5, 3:6].mean((2, 3)))
    # At a corner there are four positions, and no zeros.
    torch.testing.assert_close(averages[..., 0, 0], plain[..., :2, :2].mean((2, 3)))


def test_levels_coarser_than_the_map_are_weighted(images):
    maps = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        maps.append(Backbone('resnet18', coarse_weight=weight)(images))
    one, other = maps
    torch.testing.assert_close(other[:, : 64 + 128], one[:, : 64 + 128])
    torch.testing.assert_close(other[:, 64 + 128 :], 0.25 * one[:, 64 + 128 :])


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_weights_survive_a_file(backbone, images, tmp_path, suffix):
    path = tmp_path / f'weights{suffix}'
    state = network(1).state_dict()
    if suffix == '.safetensors':
        save_file(state, path)
    else:
        torch.save(state, path)
    torch.manual_seed(2)
    other = Backbone(FAST)
    backbone.load_pretrained(path)
    assert not torch.equal(other(images), backbone(images))
    other.load_pretrained(path)
    assert torch.equal(other(images), backbone(images))


def test_only_entries_up_to_the_deepest_level_are_needed(resnet, tmp_path):
    needed = {
        key: value
        for key, value in network(1, 'resnet18').state_dict().items()
        if key.startswith(('conv1', 'bn1', 'layer1')) and not key.endswith('num_batches_tracked')
    }
    save_file(needed, tmp_path / 'weights.safetensors')
    resnet.load_pretrained(tmp_path / 'weights.safetensors')
    assert torch.equal(resnet.extractor.state_dict()['conv1.weight'], needed['conv1.weight'])


def test_grey_images_are_taken_as_colour_images_without_colour(backbone, images):
    grey = images[:, :1]
    torch.testing.assert_close(backbone(grey), backbone(grey.repeat(1, 3, 1, 1)))


def test_a_frozen_network_keeps_its_statistics_in_training(resnet, images):
    before = {key: value.clone() for key, value in resnet.state_dict().items()}
    assert resnet.train() is resnet
    resnet(images)
    assert not any(module.training for module in resnet.modules())
    assert not any(parameter.requires_grad for parameter in resnet.parameters())
    after = resnet.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_copy_is_frozen_as_well(resnet, images):
    twin = copy.deepcopy(resnet)
    assert not any(module.training for module in twin.modules())
    assert torch.equal(twin(images), resnet(images))
    twin.fuse_for_inference()
    torch.testing.assert_close(twin(images), resnet(images), rtol=1e-4, atol=1e-4)


def test_networks_of_timm_are_taken_apart_too(images, tmp_path):
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    backbone = Backbone('timm/convnext_atto')
    assert backbone.levels == ('stages.0', 'stages.1', 'stages.2')
    source = timm.create_model('convnext_atto', pretrained=False).eval()
    save_file(source.state_dict(), tmp_path / 'convnext_atto.safetensors')
    backbone.load_pretrained(tmp_path)
    mean, std = (torch.tensor(source.pretrained_cfg[key])[:, None, None] for key in ('mean', 'std'))
    with torch.no_grad():
        wanted = source.stages[1](source.stages[0](source.stem((images - mean) / std)))
    own = backbone(images)[:, 40:120]
    torch.testing.assert_close(own[:, :, :5, :7], wanted)


def test_timms_networks_are_normalised_as_they_were_trained():
    pytest.importorskip('timm')
    mean = Backbone('timm/tf_mobilenetv3_small_minimal_100').mean.flatten()
    torch.testing.assert_close(mean, torch.tensor([0.5, 0.5, 0.5]))


def test_unknown_names_of_timm_are_refused():
    pytest.importorskip('timm')
    message = refusal(Backbone, 'timm/no_such_net')
    assert message == "unknown backbone 'timm/no_such_net': timm has no model of that name"


def test_timm_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    assert 'pip install timm' in refusal(Backbone, 'timm/resnet18')


@pytest.mark.parametrize('name', ['no_such_net', '', 'fcn_resnet50'])
def test_unknown_names_are_refused(name):
    assert repr(name) in refusal(Backbone, name)


def test_unknown_levels_are_refused():
    assert 'no_such_level' in refusal(Backbone, FAST, ('features.4', 'no_such_level'))


def test_levels_without_a_map_are_refused():
    assert 'flatten' in refusal(Backbone, FAST, ('features.4', 'flatten'))


@pytest.mark.parametrize('name', ['vit_b_32', 'mnasnet0_5'])
def test_networks_without_default_levels_are_refused(name):
    assert name in refusal(Backbone, name)


def test_a_missing_file_is_refused(backbone, tmp_path):
    assert str(tmp_path / 'none.pth') in refusal(backbone.load_pretrained, tmp_path / 'none.pth')
    assert str(tmp_path) in refusal(backbone.load_pretrained, tmp_path)


def test_weights_are_found_in_a_folder_by_name(backbone, images, tmp_path):
    assert f'{FAST}.safetensors there' in refusal(backbone.load_pretrained, tmp_path)
    torch.save(network(3).state_dict(), tmp_path / f'{FAST}.pth')
    before = backbone(images)
    backbone.load_pretrained(tmp_path)
    assert not torch.equal(backbone(images), before)


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
@pytest.mark.parametrize('content', [b'', b'no weights\n' * 20])
def test_an_unreadable_file_is_refused(backbone, tmp_path, suffix, content):
    path = tmp_path / f'weights{suffix}'
    path.write_bytes(content)
    assert str(path) in refusal(backbone.load_pretrained, path)


def test_a_file_that_runs_code_is_refused(backbone, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(network(), path)
    assert str(path) in refusal(backbone.load_pretrained, path)


@pytest.mark.parametrize('content', [torch.zeros(3), [1, 2], None, {'features.0.weight': 3}])
def test_a_checkpoint_that_holds_no_weights_is_refused(backbone, tmp_path, content):
    path = tmp_path / 'weights.pth'
    torch.save(content, path)
    assert str(path) in refusal(backbone.load_pretrained, path)


def test_missing_entries_are_counted_and_the_first_is_named(backbone, tmp_path):
    path = tmp_path / 'weights.safetensors'
    state = network().state_dict()
    del state['features.3.squeeze.bias'], state['features.4.squeeze.bias']
    save_file(state, path)
    message = refusal(backbone.load_pretrained, path)
    assert str(path) in message
    assert '2 of ' in message
    assert 'features.3.squeeze.bias' in message


def test_wrong_shapes_are_named(backbone, tmp_path):
    path = tmp_path / 'weights.pth'
    state = network().state_dict()
    state['features.0.weight'] = torch.zeros(64, 1, 3, 3)
    torch.save(state, path)
    message = refusal(backbone.load_pretrained, path)
    assert str(path) in message
    assert 'features.0.weight is [64, 1, 3, 3], not [64, 3, 3, 3]' in message


def test_refused_weights_change_nothing(backbone, images, tmp_path):
    before = backbone(images)
    state = network(5).state_dict()
    del state['features.3.squeeze.bias']
    save_file(state, tmp_path / 'weights.safetensors')
    refusal(backbone.load_pretrained, tmp_path / 'weights.safetensors')
    assert torch.equal(backbone(images), before)


def test_a_failed_download_is_refused(backbone, monkeypatch):
    def fail(*_arguments, **_options):
        raise URLError('no network\nhere')

    monkeypatch.setattr(torchvision.models, 'get_model', fail)
    message = refusal(backbone.load_pretrained, None)
    assert FAST in message
    assert 'no network' in message


@pytest.mark.realdata
@pytest.mark.parametrize('name', ['mobilenet_v2', FAST])
def test_real_weights_are_loaded(name, images):
    path = SHARED_WEIGHTS / f'{name}.safetensors'
    if not path.is_file():
        pytest.skip(f'no weights of {name} next to the repository')
    backbone = Backbone(name)
    before = backbone(images)
    backbone.load_pretrained(path)
    after = backbone(images)
    assert after.isfinite().all()
    assert after.std() > 1e-3
    assert not torch.allclose(before, after)


@pytest.mark.parametrize('name', ['deit_tiny_distilled_patch16_224', 'cait_xxs24_224'])
def test_transformers_give_their_patches_as_maps(name, images, tmp_path):
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    backbone = Backbone(f'timm/{name}', ('blocks.1', 'blocks.3'))
    assert backbone.level_channels == [192, 192]
    source = timm.create_model(name, pretrained=False).eval()
    save_file(source.state_dict(), tmp_path / f'{name}.safetensors')
    backbone.load_pretrained(tmp_path)
    with torch.no_grad():
        first, last = backbone.extract(images)
        resized = resize(images, (224, 224))
        expected = source.forward_intermediates(
            (resized - backbone.mean) / backbone.std, indices=[3], intermediates_only=True
        )[0]
    assert tuple(first.shape) == (2, 192, 14, 14)
    torch.testing.assert_close(last, expected)
    # What comes behind the deepest level is not kept.
    assert not any(key.startswith('network.blocks.4') for key in backbone.extractor.state_dict())


def test_the_level_of_a_transformer_is_at_two_thirds_of_its_depth():
    pytest.importorskip('timm')
    assert Backbone('timm/deit_tiny_patch16_224').levels == ('blocks.7',)
    message = refusal(Backbone, 'timm/deit_tiny_patch16_224', ('blocks.12',))
    assert 'has no level blocks.12: it has blocks.0 to blocks.11' in message


@pytest.mark.parametrize('name', ['mobilenet_v2', 'resnet18', FAST, 'timm/vit_tiny_patch16_224'])
def test_folding_changes_nothing_but_rounding(name):
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
        found = backbone.extract(images)
    assert not any(isinstance(one, torch.nn.BatchNorm2d) for one in backbone.modules())
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()
