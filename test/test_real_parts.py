# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Ten images of real bottles, a real pretrained backbone: defects are found on real parts."""

from pathlib import Path

from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.data.images import read_image
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.evaluation import evaluate
from flow_anomaly_ros.runtime.export import export, SUFFIXES
from flow_anomaly_ros.runtime.training import train
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / 'shared'
BOTTLE = SHARED / 'data' / 'bottle'
WEIGHTS = SHARED / 'weights' / 'mobilenet_v2.safetensors'


pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BOTTLE.is_dir() and WEIGHTS.is_file()),
        reason='needs the bottle images of MVTec AD and MobileNetV2 weights beside the repository',
    ),
]


def train_small(folder, count, **options):
    """Train on some of the good images, reduced to 128 px."""
    options = {'backbone': 'mobilenet_v2', **options}
    images = load_good_images(folder, count).images
    return train('restoration', images, options, WEIGHTS, shorter_side=128, device='cpu')


def test_bottles_are_told_apart_after_ten_good_ones():
    folder = read_folder(BOTTLE)
    # Half the size and the steps of the defaults: the test suite has to be quick.
    training = train_small(folder, 10, flow_steps=50, decoder_steps=20, copies=40)
    evaluation = evaluate(Engine.of(training.detector, training.manifest, 'cpu'), folder.test[::2])
    right = sum(row.is_right for row in evaluation.rows)
    assert evaluation.image_auroc > 0.95
    assert evaluation.pixel_auroc > 0.9
    assert right >= 0.85 * len(evaluation.rows)


@pytest.mark.parametrize(
    ('backend', 'library'), [('onnx', 'onnxruntime'), ('openvino', 'openvino')]
)
def test_backends_judge_bottles_alike(tmp_path, backend, library):
    for name in ('onnx', 'onnxscript', library):
        pytest.importorskip(name)
    folder = read_folder(BOTTLE)
    training = train_small(folder, 6, flow_steps=20, decoder_steps=1, copies=12)
    exported = tmp_path / f'model{SUFFIXES[backend]}'
    export(exported, training.detector, training.manifest, backend)
    # The exporter has folded it.
    reference = Engine.of(training.detector, training.manifest, 'cpu')
    images = [read_image(sample.path) for sample in folder.test[::6]]
    for one, other in zip(
        reference.inspect(images), Engine.load(exported, 'cpu').inspect(images), strict=True
    ):
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-3, rtol=0)
        assert (one.mask != other.mask).mean() <= 1e-3
        assert one.verdict == other.verdict
