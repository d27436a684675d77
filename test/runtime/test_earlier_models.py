# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Model files that an earlier version of the package wrote load, and judge as they did."""

import json
from pathlib import Path

from flow_anomaly_ros.data.generated import generate_part
from flow_anomaly_ros.runtime.artifact import load_artifact, save_artifact
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.manifest_versions import FORMAT_VERSION
import pytest
from safetensors import safe_open

MODELS = Path(__file__).parent / 'models'
EXPECTED = json.loads((MODELS / 'expected.json').read_text())
SIZE = 64


def path_of(model):
    return MODELS / f'{model}.safetensors'


def inspect(engine, model):
    images = [generate_part(part['seed'], SIZE, part['defect'])[0] for part in EXPECTED[model]]
    return engine.inspect(images)


@pytest.mark.parametrize('model', EXPECTED)
def test_a_model_of_an_earlier_format_judges_as_it_did(model):
    engine = Engine.load(path_of(model), 'cpu')
    inspections = inspect(engine, model)
    assert [str(found.verdict) for found in inspections] == [
        part['verdict'] for part in EXPECTED[model]
    ]
    for found, part in zip(inspections, EXPECTED[model], strict=True):
        # Registration moves the map to the camera image before its maximum is taken since then.
        rel = 0.06 if model == 'restoration_format_6' else 1e-4
        assert found.image_score == pytest.approx(part['score'], rel=rel)
        assert float(found.scores.max()) == pytest.approx(part['peak'], rel=1e-4)


@pytest.mark.parametrize('model', EXPECTED)
def test_a_model_of_an_earlier_format_is_saved_in_the_present_format(model, tmp_path):
    detector, manifest = load_artifact(path_of(model))
    path = tmp_path / 'model.safetensors'
    save_artifact(path, detector, manifest)
    with safe_open(path, framework='np') as file:
        assert json.loads(file.metadata()['flow_anomaly_ros'])['format_version'] == FORMAT_VERSION
    before, after = (
        [found.image_score for found in inspect(Engine.load(file, 'cpu'), model)]
        for file in (path_of(model), path)
    )
    assert before == after


def test_options_have_their_present_names():
    _, manifest = load_artifact(path_of('restoration_format_6'))
    assert manifest.config['reference_images'] == ['memory_bank', 'nearest', 'mean']
    assert manifest.config['memory_bank_size'] == 8
    assert 'stored' not in manifest.config
