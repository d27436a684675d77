# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What many tests share: one thread, generated parts, and one tiny model trained on them."""

import os

# Also for the processes that tests start: waiting threads would slow each other down.
os.environ.setdefault('OMP_NUM_THREADS', '1')

from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.data.generated import generate_part, write_dataset
import numpy as np
import pytest
import torch

torch.set_num_threads(1)

SIZE = 64


@pytest.fixture(scope='session')
def tiny_options():
    """Options that train the restoration detector in a second; it is no good, but it works."""
    return {
        'stride': 4,
        'blocks': 2,
        'hidden': 16,
        'smoothing': 1.0,
        'max_shift': 2,
        'copies': 10,
        'flow_steps': 20,
    }


@pytest.fixture(scope='session')
def parts(tmp_path_factory):
    """A data folder of generated parts, 64 px; tests must not change it."""
    return write_dataset(tmp_path_factory.mktemp('parts'), train=8, good=3, per_defect=1, size=SIZE)


@pytest.fixture(scope='session')
def good_images(parts):
    """The training images of `parts`, RGB uint8."""
    return load_good_images(read_folder(parts)).images


@pytest.fixture(scope='session')
def training(good_images, tiny_options):
    """A tiny restoration detector, trained once."""
    from flow_anomaly_ros.runtime.training import train

    return train('restoration', good_images, tiny_options, shorter_side=SIZE, device='cpu')


@pytest.fixture(scope='session')
def model_file(training, tmp_path_factory):
    """The file of the tiny model; tests must not change it."""
    from flow_anomaly_ros.runtime.artifact import save_artifact

    path = tmp_path_factory.mktemp('model') / 'model.safetensors'
    save_artifact(path, training.detector, training.manifest)
    return path


@pytest.fixture(scope='session')
def class_model_file(tmp_path_factory):
    """The file of a tiny model of two classes: generated parts, `part`, and white ones, `blank`."""
    from flow_anomaly_ros.runtime.artifact import save_artifact
    from flow_anomaly_ros.runtime.training import train

    options = {
        'backbone': 'squeezenet1_1',
        'strides': [4, 8],
        'base': 8,
        'multipliers': [1, 2],
        'copies': 4,
        'flow_steps': 10,
        'reflows': 0,
        'perception_steps': 10,
        'batch': 2,
        'learning_rate': 1e-2,
    }
    images = [generate_part(seed, SIZE)[0] for seed in range(3)]
    images += [np.full((SIZE, SIZE, 3), 250 + seed, np.uint8) for seed in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        # Random weights do.
        patch.setattr('flow_anomaly_ros.layers.backbone.Backbone.load_pretrained', lambda *_: None)
        training = train(
            'timenet',
            images,
            options,
            shorter_side=SIZE,
            device='cpu',
            classes=['part'] * 3 + ['blank'] * 3,
        )
    path = tmp_path_factory.mktemp('classes') / 'classes.safetensors'
    save_artifact(path, training.detector, training.manifest)
    return path


@pytest.fixture(scope='session')
def exported_files(model_file, tmp_path_factory):
    """The file of the tiny model, with its exports .onnx and .xml beside it."""
    for name in ('onnx', 'onnxscript', 'onnxruntime', 'openvino'):
        pytest.importorskip(name)
    from flow_anomaly_ros.runtime.artifact import load_artifact
    from flow_anomaly_ros.runtime.export import export, SUFFIXES

    path = tmp_path_factory.mktemp('exported') / model_file.name
    path.write_bytes(model_file.read_bytes())
    for backend, suffix in SUFFIXES.items():
        export(path.with_suffix(suffix), *load_artifact(path), backend)
    return path


@pytest.fixture
def defect_image(parts):
    """A defective generated part, RGB uint8."""
    from flow_anomaly_ros.data.images import read_image

    return read_image(parts / 'test/stain/000.png')
