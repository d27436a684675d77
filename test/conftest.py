# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What many tests share: one thread, generated parts, and one tiny model trained on them."""

import copy
import gc
import io
import os

# Also for the processes that tests start: waiting threads would slow each other down.
os.environ.setdefault('OMP_NUM_THREADS', '1')

from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.data.generated import generate_part, write_dataset
from flow_anomaly_ros.layers.inference import convert_to_channels_last, fuse_for_inference
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

torch.set_num_threads(1)

SIZE = 64


def pytest_configure(config):
    """Give each process of pytest-xdist a domain of its own: nodes of two would hear each other."""
    worker = getattr(config, 'workerinput', {}).get('workerid', 'gw0')
    first = int(os.environ.get('ROS_DOMAIN_ID') or os.getpid())
    # Domains above 101 take ports that Linux gives to other programs.
    os.environ['ROS_DOMAIN_ID'] = str(1 + (first - 1 + int(worker[2:])) % 100)


# Before pytest-xdist reads the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Say which tests share a process where several run them (pytest-xdist, as scripts/test does).

    A file's tests share its fixtures; those of exported models share the half minute of an export.
    Groups with slow tests come first, so that no process works on them alone at the end.
    """
    if not config.pluginmanager.hasplugin('xdist'):
        return
    for item in items:
        if not item.get_closest_marker('xdist_group'):
            file = item.nodeid.partition('::')[0]
            group = 'exported' if 'exported_files' in getattr(item, 'fixturenames', ()) else file
            item.add_marker(pytest.mark.xdist_group(group))
    slow_groups = {group_of(item) for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: group_of(item) not in slow_groups)


def pytest_collection_finish():
    """Leave the libraries' objects, a million, out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def group_of(item):
    return item.get_closest_marker('xdist_group').args[0]


@pytest.fixture(scope='session')
def tiny_options():
    """Options that train the restoration detector in a second; it is no good, but it works."""
    return {
        'backbone': 'pixels',
        'stride': 4,
        'blocks': 1,
        'hidden': 16,
        'smoothing': 1.0,
        'max_shift': 2,
        'augmented_samples': 10,
        'flow_steps': 8,
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
    from flow_anomaly_ros.runtime.training_data import TrainingDataset
    from flow_anomaly_ros.runtime.training_request import TrainingRequest

    return train(
        TrainingRequest(method='restoration', options=tiny_options, image_size=SIZE, device='cpu'),
        TrainingDataset(good_images),
    )


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
    from flow_anomaly_ros.runtime.training_data import TrainingDataset
    from flow_anomaly_ros.runtime.training_request import TrainingRequest

    options = {
        'backbone': 'squeezenet1_1',
        'strides': [4, 8],
        'base': 8,
        'multipliers': [1, 2],
        'augmented_samples': 4,
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
            TrainingRequest(method='timenet', options=options, image_size=SIZE, device='cpu'),
            TrainingDataset(images, tuple(['part'] * 3 + ['blank'] * 3)),
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
    from flow_anomaly_ros.runtime.export import export
    from flow_anomaly_ros.runtime.export_formats import EXPORT_SUFFIXES

    path = tmp_path_factory.mktemp('exported') / model_file.name
    path.write_bytes(model_file.read_bytes())
    for backend, suffix in EXPORT_SUFFIXES.items():
        export(path.with_suffix(suffix), *load_artifact(path), backend)
    return path


@pytest.fixture
def defect_image(parts):
    """A defective generated part, RGB uint8."""
    from flow_anomaly_ros.data.images import read_image

    return read_image(parts / 'test/stain/000.png')


class OnHost(TorchDispatchMode):
    """Notes the operations that have to do with tensors of the CPU."""

    def __init__(self):
        super().__init__()
        self.operations = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        if any(x.device.type == 'cpu' for x in tensors):
            self.operations.add(str(function))
        return result


@pytest.fixture
def host_operations(monkeypatch):
    """What a detector would do on the host once a GPU has seen an image; a GPU is not needed.

    The tensors know their shapes and devices and nothing else: a value that the host wants to know
    raises an error. A CUDA graph could do neither.
    """

    def find(detector, images):
        frozen = copy.deepcopy(detector)
        fuse_for_inference(frozen)
        convert_to_channels_last(frozen)
        file = io.BytesIO()
        torch.save(frozen, file)
        file.seek(0)
        with FakeTensorMode(), torch.no_grad():
            on_gpu = torch.load(file, map_location='cuda', weights_only=False)
            images = torch.empty(images.shape, device='cuda')
            on_gpu(images)
            with OnHost() as on_host:
                output = on_gpu(images)
        assert output.score_map.device.type == output.image_score.device.type == 'cuda'
        return on_host.operations

    monkeypatch.setattr('flow_anomaly_ros.layers.separable._MATRICES', {})
    monkeypatch.setattr(torch.cuda, '_lazy_init', lambda: None)
    return find
