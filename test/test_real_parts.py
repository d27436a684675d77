# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Ten images of real bottles, a real pretrained backbone: defects are found on real parts."""

import functools
from pathlib import Path

from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.data.images import read_image
from flow_anomaly_ros.runtime.artifact import load_artifact, save_artifact
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.evaluation import evaluate
from flow_anomaly_ros.runtime.export import export
from flow_anomaly_ros.runtime.export_formats import EXPORT_SUFFIXES
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / 'shared'
BOTTLE = SHARED / 'data' / 'bottle'
WEIGHTS = SHARED / 'weights'
BACKBONES = ('mobilenet_v2', 'squeezenet1_1')


pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(
        not BOTTLE.is_dir()
        or any(not (WEIGHTS / f'{name}.safetensors').is_file() for name in BACKBONES),
        reason='needs the bottle images of MVTec AD and weights of '
        f'{" and ".join(BACKBONES)} beside the repository',
    ),
]


def train_small(folder, count, **options):
    """Train on some of the good images, reduced to 128 px."""
    options = {'backbone': BACKBONES[0], **options}
    images = load_good_images(folder, count).images
    return train(
        TrainingRequest(
            method='restoration', options=options, weights=WEIGHTS, image_size=128, device='cpu'
        ),
        TrainingDataset(images),
    )


def test_bottles_are_told_apart_after_ten_good_ones():
    folder = read_folder(BOTTLE)
    # Half the size, and fewer steps than the defaults: the test suite has to be quick.
    few = {'restoring_pairs': 40, 'restoring_steps': 40, 'decoder_steps': 20}
    training = train_small(folder, 10, augmented_samples=40, **few)
    evaluation = evaluate(Engine.of(training.detector, training.manifest, 'cpu'), folder.test[::2])
    right = sum(row.is_correct for row in evaluation.rows)
    assert evaluation.ranking.image_auroc > 0.95
    assert evaluation.ranking.pixel_auroc > 0.9
    assert right >= 0.85 * len(evaluation.rows)


@pytest.fixture(scope='module')
def small_models(tmp_path_factory):
    """Make the file of a model with the smaller network, which takes less time to export."""

    @functools.cache
    def make(int8):
        few = {'restoring_pairs': 8, 'restoring_steps': 5, 'augmented_samples': 12}
        options = {'backbone': BACKBONES[1], 'decoder_steps': 0, 'int8': int8, **few}
        training = train_small(read_folder(BOTTLE), 2, **options)
        path = tmp_path_factory.mktemp('small') / 'model.safetensors'
        save_artifact(path, training.detector, training.manifest)
        return path

    return make


@pytest.mark.parametrize(
    ('backend', 'library', 'int8'),
    [
        ('onnx', 'onnxruntime', False),
        ('openvino', 'openvino', False),
        ('openvino', 'openvino', True),
    ],
)
def test_backends_judge_bottles_alike(small_models, backend, library, int8):
    for name in ('onnx', 'onnxscript', library):
        pytest.importorskip(name)
    model = small_models(int8)
    exported = model.with_suffix(EXPORT_SUFFIXES[backend])
    export(exported, *load_artifact(model), backend)
    engines = [Engine.load(path, 'cpu') for path in (model, exported)]
    images = [read_image(sample.path) for sample in read_folder(BOTTLE).test[::6]]
    # Whole numbers are not always rounded to the same side.
    score, share = (2e-2, 1e-2) if int8 else (1e-3, 1e-3)
    for inspection, other in zip(*(engine.inspect(images) for engine in engines), strict=True):
        np.testing.assert_allclose(other.scores, inspection.scores, atol=score, rtol=score)
        assert (inspection.mask != other.mask).mean() <= share
        assert inspection.verdict == other.verdict
