# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Whatever runs a model, it finds the same."""

from concurrent.futures import ThreadPoolExecutor
import contextlib
import copy
import dataclasses
import functools
import json
from pathlib import Path
import runpy
import shutil
import threading

from flow_anomaly_ros import cli
from flow_anomaly_ros.data.generated import generate_part
from flow_anomaly_ros.runtime import export as export_module
from flow_anomaly_ros.runtime.artifact import load_artifact, save_artifact
from flow_anomaly_ros.runtime.benchmark import time_inspection
from flow_anomaly_ros.runtime.engine import Criteria, Engine
from flow_anomaly_ros.runtime.export import export
from flow_anomaly_ros.runtime.export_formats import EXPORT_SUFFIXES
from flow_anomaly_ros.runtime.tiling import TiledDetector
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import numpy as np
import pytest
import torch

for name in ('onnx', 'onnxscript', 'onnxruntime', 'openvino'):
    pytest.importorskip(name)

pytestmark = pytest.mark.slow

TEST_METHODS = runpy.run_path(str(Path(__file__).parents[1] / 'detectors' / 'test_methods.py'))
OPTIONS = TEST_METHODS['OPTIONS']
# The last restoration has a network and registers parts, the other one has several scales.
WAYS = {
    'cainnflow': OPTIONS['cainnflow'][0],
    'feature_fusion': OPTIONS['feature_fusion'][0],
    'nf_bmr': OPTIONS['nf_bmr'][0],
    # The one of other tests.
    'restoration': {},
    'restoration with a network': {
        'backbone': 'squeezenet1_1',
        'levels': ['features.4', 'features.7'],
        'scales': [1.0],
        'stride': 4,
        'components': 8,
        'hidden': 8,
        'augmented_samples': 6,
        'restoring_pairs': 8,
        'restoring_steps': 3,
        'restoring_width': 8,
        'decoder_steps': 1,
        'align': 'always',
    },
    'timenet': OPTIONS['timenet'][0] | {'strides': [8]},
}
# Of the four training images, where a method tells classes apart.
CLASSES = {'timenet': ('one', 'one', 'other', 'other')}
# That of the smallest tile.
SIZE = 64
# Neither a multiple of the tile nor square.
TILED_SIZE = (112, 96)
# Of the score maps, in units of the largest score where that exceeds 1.
TOLERANCE = 1e-3


@pytest.fixture(scope='module', autouse=True)
def _fewer_refinements():
    """Each makes graphs longer, and exporting them takes longer, without anything new."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('flow_anomaly_ros.detectors.restoration.registration.GAUSS_NEWTON_STEPS', 2)
        yield


def save_trained(path, method, options):
    images = [generate_part(seed, SIZE)[0] for seed in range(4)]
    options = TEST_METHODS['limit_steps'](options, 2)
    with pytest.MonkeyPatch.context() as patch:
        # Random weights do.
        patch.setattr('flow_anomaly_ros.layers.backbone.Backbone.load_pretrained', lambda *_: None)
        training = train(
            TrainingRequest(method=method, options=options, image_size=SIZE, device='cpu'),
            TrainingDataset(images, tuple(CLASSES.get(method, ()))),
        )
    save_artifact(path, training.detector, training.manifest)


@pytest.fixture(
    scope='module',
    params=[
        # On the worker that has the files of other tests, see `exported_files`.
        pytest.param(way, marks=pytest.mark.xdist_group('exported') if way == 'restoration' else ())
        for way in WAYS
    ],
)
def files(request, small_model):
    """A tiny model of a method, as its own file and exported."""
    if request.param == 'restoration':
        return request.getfixturevalue('exported_files')
    return small_model(request.param)


@pytest.fixture(scope='module')
def graphs():
    """The ONNX graphs that were traced, by the name of a model and the type of its images."""
    return {}


@pytest.fixture(scope='module')
def small_model(graphs, tmp_path_factory):
    """Make a tiny model of one of `WAYS`, once, as its own file and exported."""
    trace = export_module._to_onnx

    @functools.cache
    def make(way):
        def traced(detector, manifest, pixels):
            graphs[way, pixels] = trace(detector, manifest, pixels)
            return copy.deepcopy(graphs[way, pixels])

        source = tmp_path_factory.mktemp('models') / 'model.safetensors'
        save_trained(source, way.split()[0], WAYS[way])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export_module, '_to_onnx', traced)
            for backend, suffix in EXPORT_SUFFIXES.items():
                export(source.with_suffix(suffix), *load_artifact(source), backend)
        return source

    return make


def random_images():
    generator = np.random.default_rng(0)
    return [
        generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
        generator.integers(0, 256, (SIZE, SIZE), dtype=np.uint8),
        # Whole and other fractions, and another aspect ratio.
        generator.integers(0, 256, (2 * SIZE, 2 * SIZE, 3), dtype=np.uint8),
        generator.integers(0, 256, (70, 100, 3), dtype=np.uint8),
        *(generate_part(seed, 64, 'stain')[0] for seed in range(2)),
    ]


def require_same(reference, engine, images, part_class=''):
    criteria = [Criteria(reference.manifest.thresholds, part_class=part_class)] * len(images)
    expected, found = (tested.inspect(images, criteria) for tested in (reference, engine))
    for inspection, other in zip(expected, found, strict=True):
        scale = max(1.0, float(inspection.scores.max()))
        np.testing.assert_allclose(other.scores, inspection.scores, atol=TOLERANCE * scale, rtol=0)
        assert other.image_score == pytest.approx(inspection.image_score, abs=TOLERANCE * scale)
        assert (inspection.mask != other.mask).mean() <= 1e-3
        assert inspection.part_class == other.part_class


def test_a_loaded_model_gives_the_results_of_the_saved_detector(files):
    trained = Engine.of(*load_artifact(files), 'cpu')
    require_same(trained, Engine.load(files, 'cpu'), random_images())


@pytest.fixture
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# OpenVINO then computes two images beside one another.
@pytest.mark.usefixtures('_two_threads')
@pytest.mark.parametrize('suffix', EXPORT_SUFFIXES.values())
def test_exported_models_give_the_same_results(files, suffix):
    reference, engine = Engine.load(files, 'cpu'), Engine.load(files.with_suffix(suffix), 'cpu')
    assert engine.manifest == reference.manifest
    images = random_images()
    require_same(reference, engine, images)
    for part_class in reference.manifest.classes:
        require_same(reference, engine, images[:2], part_class.name)
    # One image, and other batches than the one before.
    require_same(reference, engine, images[:1])
    require_same(reference, engine, images[1:4])


@pytest.fixture(scope='module')
def whole_numbers(tmp_path_factory):
    """A tiny model of whole numbers, whose scores are no distances but likelihoods."""
    path = tmp_path_factory.mktemp('models') / 'model.safetensors'
    save_trained(path, 'nf_bmr', OPTIONS['nf_bmr'][1])
    return path


@pytest.mark.parametrize(('backend', 'suffix'), EXPORT_SUFFIXES.items())
def test_exported_int8_models_give_nearly_the_same_scores(whole_numbers, backend, suffix):
    export(whole_numbers.with_suffix(suffix), *load_artifact(whole_numbers), backend)
    images = [generate_part(seed, SIZE, 'stain')[0] for seed in range(3)]
    reference, engine = (
        Engine.load(path, 'cpu') for path in (whole_numbers, whole_numbers.with_suffix(suffix))
    )
    expected, found = (
        np.stack([inspection.scores for inspection in each.inspect(images)])
        for each in (reference, engine)
    )
    assert np.square(found - expected).mean() <= 0.05**2 * np.square(expected).mean()


def test_old_versions_of_torch_cannot_export_int8(capsys, whole_numbers, tmp_path, monkeypatch):
    monkeypatch.delattr(torch.onnx, 'ops')
    target = tmp_path / 'model.onnx'
    line = refusal(capsys, 'export', whole_numbers, '--backend', 'onnx', '--output', target)
    assert 'exporting int8 needs torch' in line
    assert 'exporting int8 needs torch>=2.8' in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('suffix', EXPORT_SUFFIXES.values())
def test_exported_graphs_accept_camera_images_without_preprocessing(files, suffix):
    """Without this package: RGB bytes of any size."""
    reference = Engine.load(files, 'cpu')
    image = generate_part(3, 75, 'burr')[0]
    expected = reference.inspect([image])[0]
    several = len(reference.manifest.classes) > 1
    classes = {'classes': np.array([-1])} if several else {}
    if suffix == '.onnx':
        import onnxruntime

        session = onnxruntime.InferenceSession(files.with_suffix(suffix))
        inputs = {'images': image[None]} | classes
        score_map, image_score = session.run(['score_map', 'image_score'], inputs)
    else:
        import openvino

        model = openvino.Core().compile_model(
            files.with_suffix(suffix), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'}
        )
        score_map, image_score, *_ = model({'images': image[None]} | classes).values()
    # What resizes rounds here and there to another grey level.
    scale = max(1.0, float(expected.scores.max()))
    assert np.abs(score_map[0] - expected.scores).mean() <= 0.01 * scale
    assert image_score[0] == pytest.approx(expected.image_score, rel=0.05)


def test_reduced_precision_gives_nearly_the_same_scores(files):
    reference = Engine.load(files, 'cpu')
    image = generate_part(3, SIZE, 'burr')[0]
    expected = reference.inspect([image])[0].scores
    # OpenVINO reduces all of the graph, poses and whitening too.
    for model, share in ((files, 0.1), (files.with_suffix('.xml'), 0.6)):
        found = Engine.load(model, 'cpu', 'bfloat16').inspect([image])[0].scores
        assert not np.array_equal(found, expected)
        assert np.abs(found - expected).mean() <= share * expected.mean()


def test_the_stage_times_add_up_to_the_total_time(files):
    image = generate_part(3, SIZE)[0]
    for suffix, inner in (('.safetensors', {'features', 'score'}), ('.onnx', {'detect'})):
        engine = Engine.load(files.with_suffix(suffix), 'cpu')
        before = engine.inspect([image])[0].scores
        _, stages = time_inspection(engine, [image, image])
        assert inner | {'preprocess', 'regions', 'total'} <= set(stages)
        assert all(value >= 0 for value in stages.values())
        total = stages.pop('total')
        assert 0.5 * total <= sum(stages.values()) <= total
        # Nothing of the measurement stays.
        np.testing.assert_array_equal(engine.inspect([image])[0].scores, before)


def test_compiled_models_give_the_same_results(model_file, defect_image, monkeypatch):
    compile_detector = torch.compile
    graphs, threads = [], set()

    def kept(graph, _inputs):
        graphs.append(graph)

        def run(*inputs):
            threads.add(threading.get_ident())
            return graph(*inputs)

        return run

    def without_code(detector, mode, dynamic):
        # Taken apart as always; writing and compiling code takes a minute.
        assert mode == 'default'
        return compile_detector(detector, backend=kept, dynamic=dynamic)

    monkeypatch.setattr(torch, 'compile', without_code)
    loaded = load_artifact(model_file)
    # As on a device that has not computed constants yet.
    monkeypatch.setattr('flow_anomaly_ros.layers.separable._MATRICES', {})
    compiled = Engine.of(*loaded, 'cpu', compiled=True, frozen=True)
    assert compiled.backend.name == 'PyTorch, compiled on cpu'
    compiled.inspect([defect_image])
    assert len(graphs) == 1
    require_same(Engine.load(model_file, 'cpu'), compiled, [defect_image])
    # CUDA graphs are those of a thread.
    with ThreadPoolExecutor() as pool:
        pool.submit(compiled.inspect, [defect_image]).result()
    compiled.close()
    assert len(threads) == 1
    assert len(graphs) == 1


def refusal(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert status == 2
    assert len(lines) == 1
    return lines[0]


def test_export_refuses_invalid_arguments(capsys, model_file, tmp_path):
    target = tmp_path / 'model.onnx'
    line = refusal(capsys, 'export', model_file, '--backend', 'tflite', '--output', target)
    assert 'choose one of onnx, openvino' in line
    line = refusal(capsys, 'export', model_file, '--backend', 'openvino', '--output', target)
    assert 'must end in .xml' in line
    line = refusal(capsys, 'export', target, '--backend', 'onnx', '--output', target)
    assert 'no model file' in line
    assert not list(tmp_path.iterdir())


@pytest.fixture
def _exported_before(exported_files, monkeypatch):
    """Take the graphs of an earlier export: tracing them takes seconds."""

    def copied(path, *_):
        for suffix in {path.suffix, path.suffix.replace('.xml', '.bin')}:
            shutil.copy(exported_files.with_suffix(suffix), path.with_suffix(suffix))

    for backend in EXPORT_SUFFIXES:
        monkeypatch.setattr(f'flow_anomaly_ros.runtime.export._write_{backend}', copied)


@pytest.fixture
def refused_export(capsys, exported_files, tmp_path, _exported_before):
    """Export to ONNX, which must write nothing; returns why."""

    def run():
        target = tmp_path / 'model.onnx'
        line = refusal(capsys, 'export', exported_files, '--backend', 'onnx', '--output', target)
        assert not list(tmp_path.iterdir())
        return line

    return run


@pytest.mark.parametrize('change', [1, float('nan')])
def test_an_exported_model_that_scores_differently_is_not_written(
    exported_files, refused_export, monkeypatch, change
):
    detector, manifest = load_artifact(exported_files)
    detector.memory_banks[0].bank_rows += change
    monkeypatch.setattr(
        'flow_anomaly_ros.commands.actions.export.load_artifact', lambda _: (detector, manifest)
    )
    assert 'was not written: relative score difference' in refused_export()


@pytest.mark.parametrize(
    ('share', 'difference', 'is_written'),
    [(0.004, 0.01, True), (0.02, 0.01, False), (0.004, 0.1, False)],
)
@pytest.mark.usefixtures('_exported_before')
def test_a_small_share_of_scores_may_differ_after_export(
    exported_files, tmp_path, monkeypatch, share, difference, is_written
):
    differences = np.zeros((4, 50, 50))
    differences.flat[: int(share * differences.size)] = difference
    monkeypatch.setattr('flow_anomaly_ros.runtime.export._differences', lambda *_: differences)
    target = tmp_path / 'model.onnx'
    with (
        contextlib.nullcontext()
        if is_written
        else pytest.raises(ValueError, match='relative score difference')
    ):
        assert export(target, *load_artifact(exported_files), 'onnx') == difference
    assert target.exists() == is_written


def test_an_exported_model_that_rejects_its_golden_sample_is_not_written(
    refused_export, monkeypatch
):
    def refused(_engine):
        raise ValueError('its golden sample is classified as defect')

    monkeypatch.setattr(Engine, 'require_golden_sample', refused)
    assert 'was not written: its golden sample' in refused_export()


@pytest.mark.usefixtures('_exported_before')
def test_the_weights_of_an_exported_model_are_written_before_the_model_file(
    exported_files, tmp_path, monkeypatch
):
    replace, targets = Path.replace, []

    def noted(path, target):
        targets.append(target)
        return replace(path, target)

    monkeypatch.setattr(Path, 'replace', noted)
    export(tmp_path / 'model.xml', *load_artifact(exported_files), 'openvino')
    assert targets == [tmp_path / 'model.bin', tmp_path / 'model.xml']


@pytest.fixture(scope='module')
def tiled_file(small_model, graphs, tmp_path_factory):
    """A model of tiles, as its own file and exported."""
    # The graph scores one tile: it is the one of a model of images as large as a tile.
    detector, manifest = load_artifact(small_model('nf_bmr'))
    manifest = dataclasses.replace(
        manifest, tile=SIZE, input_size=TILED_SIZE, image_size=TILED_SIZE, golden_sample=''
    )
    source = tmp_path_factory.mktemp('tiles') / 'model.safetensors'
    save_artifact(source, detector, manifest)

    def traced(detector, manifest, pixels):
        assert not isinstance(detector, TiledDetector)
        assert manifest.network_input_size == (SIZE, SIZE)
        return copy.deepcopy(graphs['nf_bmr', pixels])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, '_to_onnx', traced)
        for backend, suffix in EXPORT_SUFFIXES.items():
            export(source.with_suffix(suffix), *load_artifact(source), backend)
    return source


@pytest.mark.parametrize('suffix', EXPORT_SUFFIXES.values())
def test_exported_tiled_models_give_the_same_results(tiled_file, suffix):
    engines = [Engine.load(tiled_file.with_suffix(end), 'cpu') for end in ('.safetensors', suffix)]
    images = [generate_part(seed, 96, 'stain')[0] for seed in range(2)]
    require_same(*engines, [*images, generate_part(3, 150)[0]])
    require_same(*engines, images[:1])


@pytest.mark.parametrize('suffix', EXPORT_SUFFIXES.values())
def test_damaged_exported_models_are_refused_in_one_line(capsys, tmp_path, suffix, parts):
    damaged = tmp_path / f'model{suffix}'
    images = parts / 'test/good'
    assert 'no model file' in refusal(capsys, 'predict', damaged, images)
    damaged.write_bytes(b'nothing of the kind')
    assert 'export it again' in refusal(capsys, 'predict', damaged, images)


def test_an_openvino_model_without_its_weights_file_is_refused(
    capsys, exported_files, tmp_path, parts
):
    lone = shutil.copy(exported_files.with_suffix('.xml'), tmp_path)
    line = refusal(capsys, 'predict', lone, parts / 'test/good')
    assert 'model.xml lacks its weights, model.bin' in line


@pytest.mark.parametrize(
    ('suffix', 'options', 'words'),
    [
        ('.onnx', ('--device', 'tpu'), "device 'tpu' is not available"),
        ('.onnx', ('--device', 'cuda:x'), "device 'cuda:x' is not available"),
        ('.onnx', ('--precision', 'bfloat16'), 'precision bfloat16 is not supported'),
        ('.xml', ('--device', 'cuda'), "device 'cuda' is not available"),
        ('.safetensors', ('--precision', 'int3'), "unknown precision 'int3'"),
    ],
)
def test_unsupported_devices_and_precisions_are_refused(
    capsys, exported_files, parts, suffix, options, words
):
    model = exported_files.with_suffix(suffix)
    assert words in refusal(capsys, 'predict', model, parts / 'test/good', *options)


def test_a_provider_that_fails_to_initialise_is_reported(
    capsys, exported_files, parts, monkeypatch
):
    import onnxruntime

    # As where the library is built for CUDA and there is no driver.
    names = ['CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: names)
    model = exported_files.with_suffix('.onnx')
    line = refusal(capsys, 'predict', model, parts / 'test/good', '--device', 'cuda')
    assert 'CUDAExecutionProvider failed to initialise' in line
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert Engine.load(model, 'auto').backend.name == 'ONNX Runtime on cpu'


def test_exported_models_are_inspected_but_not_explained(capsys, exported_files, parts, tmp_path):
    model = exported_files.with_suffix('.onnx')
    assert cli.main(['predict', str(model), str(parts / 'test/good')]) == 0
    capsys.readouterr()
    pictures = ('--output', tmp_path, '--explain')
    assert '.safetensors' in refusal(capsys, 'predict', model, parts / 'test/good', *pictures)


def test_benchmark_measures_models_side_by_side(capsys, exported_files, tmp_path):
    figures = tmp_path / 'figures.json'
    models = [str(exported_files.with_suffix(s)) for s in ('.safetensors', '.onnx', '.xml')]
    batches = ('--batch', '1', '--batch', '3', '--runs', '5')
    assert cli.main(['benchmark', *models, *batches, '--json', str(figures)]) == 0
    printed = capsys.readouterr().out
    results = json.loads(figures.read_text())
    assert [(result['model'], result['batch']) for result in results] == [
        (model, batch) for model in models for batch in (1, 3)
    ]
    for result in results:
        assert result['backend'] in printed
        assert {'decode', 'preprocess', 'regions', 'total'} <= set(result['stages_ms'])
        assert 0 < result['stages_ms']['total']['median'] <= result['stages_ms']['total']['p95']
        assert result['images_per_second'] > 0
        assert result['memory_mib'] >= 0
    assert {'features', 'flow', 'restore', 'score'} <= set(results[0]['stages_ms'])
