# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line: every command does its work, and every bad input is one line."""

import errno
import json
from pathlib import Path
import shutil
from signal import SIGINT
import subprocess
import sys

from flow_anomaly_ros import cli
from flow_anomaly_ros.commands import arguments as command_arguments
from flow_anomaly_ros.commands.actions.train import request_of
from flow_anomaly_ros.data.generated import write_dataset
from flow_anomaly_ros.data.images import read_image, write_image
from flow_anomaly_ros.detectors.registry import DEFAULT_METHOD, METHODS
from flow_anomaly_ros.runtime.artifact import load_artifact
from flow_anomaly_ros.runtime.training_progress import StageProgress
from flow_anomaly_ros.runtime.training_request import TrainingRequest
from flow_anomaly_ros.scoring.thresholds import MASK_RULES
import numpy as np
import pytest
from safetensors.numpy import save_file
from waiting import exit_status, run_to_end

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tiny(tiny_options):
    """Arguments that make a training take a second."""
    options = dict(tiny_options)
    # Not set like the others: a test may give another.
    backbone = options.pop('backbone')
    return ['--threads', '1', '--device', 'cpu', '--backbone', backbone] + [
        argument for name, value in options.items() for argument in ('--set', f'{name}={value}')
    ]


@pytest.fixture
def outcome(capsys):
    """Run a command line; returns exit status, stdout and the lines of stderr."""

    def run(*arguments):
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err.splitlines()

    return run


def listed(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob('*'))


def python_m(*arguments):
    command = [sys.executable, '-m', 'flow_anomaly_ros.cli', *map(str, arguments)]
    return run_to_end(command, cwd=ROOT)


def start_with_pipes(*arguments):
    """Start a command as a program does that reads its progress."""
    command = [sys.executable, '-m', 'flow_anomaly_ros.cli', *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


# What every command does


def test_train_writes_a_model_and_its_loss_curve(parts, tmp_path, tiny, outcome):
    model = tmp_path / 'model.safetensors'
    status, out, err = outcome(
        'train', '--data', parts, '--output', model, '--max-images', 3, '--seed', 5, *tiny
    )
    assert status == 0
    assert listed(tmp_path) == [Path('model.loss.png'), Path('model.safetensors')]
    assert 'trained restoration on 3 images at 64x64 px' in out
    assert 'defect from' in out
    # Not a terminal: one line for each stage.
    assert [line.split(':')[0] for line in err] == [
        prefix + stage
        for prefix in ('calibration 1/3 ', 'calibration 2/3 ', 'calibration 3/3 ', '')
        for stage in ('registration', 'features', 'flow', 'held-out distances')
    ] + ['only 3 training images (minimum 4)']
    _, manifest = load_artifact(model)
    assert manifest.training['seed'] == 5
    assert manifest.classes[0].calibration['false_positive_rate'] == 0.01


def test_train_prints_nothing_with_quiet(parts, tmp_path, tiny, outcome):
    model = tmp_path / 'model.safetensors'
    assert outcome(
        'train', '--data', parts, '--output', model, '--max-images', 4, '--quiet', *tiny
    ) == (0, '', [])
    assert model.is_file()


def test_train_prints_warnings_even_with_quiet(parts, tmp_path, tiny, outcome):
    model = tmp_path / 'model.safetensors'
    status, out, err = outcome(
        'train', '--data', parts, '--output', model, '--max-images', 1, '--quiet', *tiny
    )
    assert (status, out, len(err)) == (0, '', 1)
    assert 'thresholds are unreliable' in err[0]


def test_train_names_a_defect_among_the_good_parts(parts, tmp_path, tiny, outcome):
    good = tmp_path / 'good'
    shutil.copytree(parts / 'train' / 'good', good)
    defect = good / 'zz_defect.png'
    image = read_image(sorted(good.iterdir())[0])
    image[20:36, 20:36] = 255
    write_image(defect, image)
    model = tmp_path / 'model.safetensors'
    status, _, err = outcome('train', '--data', good, '--output', model, '--quiet', *tiny)
    assert status == 0
    assert [line.split(' looks defective ')[0] for line in err] == [str(defect)]


def test_options_on_the_command_line_override_the_config_file(parts, tmp_path, tiny, outcome):
    config = tmp_path / 'options.yaml'
    config.write_text('learning_rate: 2e-3\nflow_steps: 999\nscales: [1.0, 0.5]\n')
    model = tmp_path / 'model.safetensors'
    arguments = ['--data', parts, '--output', model, '--max-images', 1, '--config', config]
    assert outcome('train', *arguments, *tiny, '--false-positive-rate', 0.2)[0] == 0
    _, manifest = load_artifact(model)
    assert manifest.config['learning_rate'] == 2e-3
    assert manifest.config['scales'] == [1.0, 0.5]
    assert manifest.config['flow_steps'] == 8
    assert manifest.classes[0].calibration['false_positive_rate'] == 0.2


def test_options_on_the_command_line_override_the_preset(parts, tmp_path, tiny, outcome):
    model = tmp_path / 'model.safetensors'
    arguments = ['--data', parts, '--output', model, '--max-images', 1, '--preset', 'fast']
    assert outcome('train', *arguments, *tiny)[0] == 0
    _, manifest = load_artifact(model)
    assert (
        manifest.config['memory_bank_size']
        == (METHODS['restoration'].presets['fast']['memory_bank_size'])
    )
    assert manifest.config['flow_steps'] == 8


@pytest.fixture
def two_kinds(tmp_path):
    """Two data folders of generated parts, the second of light and reddened ones."""
    for name, seed in (('dark', 0), ('light', 50)):
        write_dataset(tmp_path / name, train=4, good=2, per_defect=1, size=64, seed=seed)
    for path in (tmp_path / 'light').rglob('*.png'):
        if 'ground_truth' not in path.parts:
            image = read_image(path) // 3
            image[..., 0] += 160
            write_image(path, image)
    return tmp_path / 'dark', tmp_path / 'light'


def test_one_model_is_trained_on_several_classes(two_kinds, tmp_path, outcome, monkeypatch):
    monkeypatch.setattr(
        'flow_anomaly_ros.layers.backbone.Backbone.load_pretrained', lambda *_: None
    )
    dark, light = two_kinds
    model, kept = tmp_path / 'model.safetensors', tmp_path / 'checkpoints'
    data = ['--data', dark, '--data', light, '--output', model]
    options = [
        *('backbone=squeezenet1_1', 'strides=[4, 8]', 'base=8', 'multipliers=[1, 2]', 'pairs=2'),
        *('augmented_samples=4', 'flow_steps=4', 'reflow_steps=4', 'perception_steps=4', 'batch=2'),
    ]
    options = [part for option in options for part in ('--set', option)]
    arguments = [*data, '--image-size', 64, '--method', 'timenet', *options, '--checkpoints', kept]
    status, out, _ = outcome('train', *arguments)
    assert status == 0
    assert 'trained timenet on 8 images at 64x64 px' in out
    assert 'reflow 1: curvature' in out
    for name in ('dark', 'light'):
        assert f'{name}: 4 good parts, scored by models that had not seen them' in out
        assert f'{name}: uncertain from' in out
    # What an interrupted training goes on from is not needed any more.
    assert not kept.exists()
    assert [part_class.name for part_class in load_artifact(model)[1].classes] == ['dark', 'light']

    status, out, _ = outcome('predict', model, dark / 'test/good', light / 'test/good')
    assert status == 0
    classes = [line.split()[1] for line in out.splitlines()]
    assert classes == ['dark', 'dark', 'light', 'light']
    figures = tmp_path / 'figures.json'
    status, _, _ = outcome(
        'predict', model, dark / 'test/good', '--class', 'light', '--json', figures
    )
    assert status == 0
    assert {image['class'] for image in json.loads(figures.read_text())['images']} == {'light'}
    assert outcome('evaluate', model, '--data', dark, '--class', 'dark')[0] == 0
    status, out, _ = outcome('calibrate', model, light / 'test/good', '--class', 'light')
    assert status == 0
    assert 'thresholds now based on 6 good parts (was 4)' in out


def test_wrong_classes_are_refused_in_one_line(two_kinds, tmp_path, class_model_file, refused):
    dark, light = two_kinds
    target = tmp_path / 'model.safetensors'
    both = ['train', '--data', dark, '--data', light, '--output', target]
    assert 'restoration learns one class of parts per model' in refused(*both)
    again = ['train', '--data', dark, '--data', dark, '--output', target, '--method', 'timenet']
    assert '2 data folders are named dark' in refused(*again)
    images = dark / 'test/good'
    assert 'it has part, blank' in refused('predict', class_model_file, images, '--class', 'nut')
    assert 'name one of part, blank' in refused('calibrate', class_model_file, images)
    assert not target.exists()


def test_a_tiled_model_is_trained_evaluated_and_calibrated(tmp_path, tiny, outcome):
    data, model = tmp_path / 'data', tmp_path / 'model.safetensors'
    write_dataset(data, train=3, good=2, per_defect=1, size=128)
    arguments = ['--data', data, '--output', model, '--image-size', 128, '--tile', 64]
    status, out, _ = outcome('train', *arguments, *tiny)
    assert status == 0
    assert 'trained restoration on 3 images at 128x128 px, in tiles of 64 px, in' in out
    detector, manifest = load_artifact(model)
    assert (manifest.input_size, manifest.tile) == ((128, 128), 64)
    # Three images of 3x3 tiles: what a detector knows of good parts has the size of a tile.
    assert detector.memory_banks[0].bank.shape[:2] == (16, 16)
    assert detector.memory_banks[0].bank.shape[3] == 27
    assert len(manifest.classes[0].calibration['image_scores']) == 3

    status, out, err = outcome('evaluate', model, '--data', data)
    assert (status, err) == (0, [])
    assert 'good' in out
    stained = data / 'test/stain/000.png'
    status, out, _ = outcome('predict', model, stained, '--output', tmp_path / 'out', '--explain')
    assert status == 0
    assert Path('000.explanation.png') in listed(tmp_path / 'out')
    assert read_image(tmp_path / 'out/000.mask.png').shape == (128, 128)
    _, out, _ = outcome('calibrate', model, data / 'test/good')
    assert 'thresholds now based on 5 good parts (was 3)' in out
    assert load_artifact(model)[1].tile == 64


def test_train_names_unreadable_files_with_a_count(parts, tmp_path, tiny, outcome):
    folder = tmp_path / 'data'
    shutil.copytree(parts / 'train/good', folder)
    (folder / '000.png').write_bytes((folder / '000.png').read_bytes()[:100])
    (folder / 'table.csv').write_text('1,2,3')
    arguments = ['train', '--data', folder, '--output', tmp_path / 'model.safetensors', *tiny]
    status, _, err = outcome(*arguments, '--quiet')
    assert status == 0
    assert len(err) == 3
    assert '000.png' in err[0]
    assert 'table.csv' in err[1]
    assert err[2] == 'skipped 2 of 9 files, training on 7 images'


def test_evaluate_prints_a_table_and_writes_metrics_and_pictures(
    parts, model_file, tmp_path, outcome
):
    figures_file, pictures = tmp_path / 'figures.json', tmp_path / 'new/pictures'
    status, out, err = outcome(
        'evaluate', model_file, '--data', parts, '--json', figures_file, '--pictures', pictures
    )
    assert (status, err) == (0, [])
    lines = out.splitlines()
    assert lines[0].split()[:3] == ['label', 'images', 'correct']
    assert lines[4].split()[:2] == ['good', '3']
    figures = json.loads(figures_file.read_text())
    assert figures['model'] == str(model_file)
    assert figures['data'] == str(parts)
    assert figures['images'] == 9
    shares = ('recall_at_1_percent_fpr', 'recall', 'pointing_game', 'auroc_outside_defects')
    for name in ('image_auroc', 'pixel_auroc', 'aupro', 'image_f1', *shares):
        assert 0 <= figures[name] <= 1
        assert f'{figures[name]:.4f}' in out
    assert sum(figures['confusion']['good'].values()) == 3
    assert sum(figures['confusion']['defective'].values()) == 6
    assert figures['latency_ms_p50'] > 0
    assert len(listed(pictures)) == 9
    assert Path('stain_000.png') in listed(pictures)


def test_a_model_of_normalised_maps_calls_defects_by_half_of_their_range(
    parts, tmp_path, tiny, outcome
):
    model = tmp_path / 'model.safetensors'
    arguments = ['--data', parts, '--output', model, '--image-size', 64, *tiny]
    assert outcome('train', *arguments, '--set', 'normalize_maps=true')[0] == 0
    _, manifest = load_artifact(model)
    (thresholds,) = manifest.thresholds
    # No threshold fits all maps, also where a camera asks for one.
    assert thresholds.rule == thresholds.override(rule='calibrated').rule == 'half'
    image = read_image(parts / 'test/good/000.png')
    image[10:22, 26:38] = (220, 40, 30)
    write_image(tmp_path / 'painted.png', image)
    status, out, _ = outcome('predict', model, tmp_path / 'painted.png')
    assert (status, out.split()[1]) == (0, 'defect')
    # Nor can pixels of several images be ranked.
    status, out, _ = outcome('evaluate', model, '--data', parts)
    assert status == 0
    assert 'not available' in next(line for line in out.splitlines() if line.startswith('aupro'))


def test_the_mask_rule_does_not_change_what_the_scores_are_worth(parts, model_file, outcome):
    plain, half = (
        outcome('evaluate', model_file, '--data', parts, '--mask-rule', rule)[1].splitlines()
        for rule in ('calibrated', 'half')
    )
    for name in ('image_auroc', 'aupro', 'pointing_game'):
        (line,) = [line for line in plain if line.startswith(name)]
        assert line in half


@pytest.mark.parametrize('rule', MASK_RULES)
def test_masks_are_made_by_the_rule_that_is_asked_for(parts, model_file, tmp_path, outcome, rule):
    image, output = parts / 'test/good/000.png', tmp_path / 'pictures'
    assert outcome('predict', model_file, image, '--output', output, '--mask-rule', rule)[0] == 0
    mask = read_image(output / '000.mask.png')
    # The rules of the patent mark something on every image: some, and about half of it.
    shares = {'calibrated': (0, 0), 'half': (0.001, 0.3), 'mean': (0.2, 0.7)}
    least, most = shares[rule]
    assert least <= (mask > 0).mean() <= most


def test_the_command_and_the_thresholds_know_the_same_mask_rules():
    assert command_arguments.MASK_RULES == MASK_RULES


def test_evaluate_writes_null_for_metrics_that_cannot_be_computed(
    parts, model_file, tmp_path, outcome
):
    shutil.copytree(parts / 'test/good', tmp_path / 'data/test/good')
    figures_file = tmp_path / 'figures.json'
    status, out, _ = outcome(
        'evaluate', model_file, '--data', tmp_path / 'data', '--json', figures_file
    )
    assert status == 0
    figures = json.loads(figures_file.read_text())
    assert figures['image_auroc'] is figures['pixel_auroc'] is figures['aupro'] is None
    assert 'not available' in out


def test_evaluate_skips_and_names_an_unreadable_image(parts, model_file, tmp_path, outcome):
    shutil.copytree(parts / 'test', tmp_path / 'test')
    (tmp_path / 'test/good/001.png').write_text('no image')
    status, out, err = outcome('evaluate', model_file, '--data', tmp_path)
    assert status == 1
    assert '001.png' in err[0]
    assert '/ground_truth/burr/000_mask.png: pixel metrics exclude them' in err[-1]
    assert err[1] == 'skipped 1 of 9 images'
    assert out.splitlines()[4].split()[:2] == ['good', '2']


def test_predict_prints_and_writes_a_result_per_image(parts, model_file, tmp_path, outcome):
    output, results = tmp_path / 'pictures', tmp_path / 'results.json'
    images = [parts / 'test/good', parts / 'test/stain/000.png']
    status, out, err = outcome(
        'predict', model_file, *images, '--output', output, '--json', results
    )
    assert (status, err) == (0, [])
    lines = out.splitlines()
    assert len(lines) == 4
    assert lines[3].split()[0] == str(images[1])
    assert all(line.split()[1] in ('ok', 'uncertain', 'defect') for line in lines)
    # The two images called 000 keep their own pictures.
    names = ('000', '000_2', '001', '002')
    kinds = ('mask', 'strip')
    assert listed(output) == [Path(f'{name}.{kind}.png') for name in names for kind in kinds]
    mask = read_image(output / '000.mask.png')
    assert mask.shape == (64, 64)
    assert set(np.unique(mask)) <= {0, 255}
    entries = json.loads(results.read_text())['images']
    assert [entry['verdict'] for entry in entries] == [line.split()[1] for line in lines]
    assert [len(entry['regions']) for entry in entries] == [int(x.split()[3]) for x in lines]


def test_evaluate_warns_of_images_of_another_shape(parts, model_file, tmp_path, outcome):
    folder = tmp_path / 'test/good'
    folder.mkdir(parents=True)
    for path in sorted((parts / 'test/good').iterdir()):
        write_image(folder / path.name, read_image(path)[:32])
    status, _, err = outcome('evaluate', model_file, '--data', tmp_path)
    assert (status, len(err)) == (0, 1)
    assert '64x32 px differs from training (64x64 px)' in err[0]


def test_predict_explains(parts, model_file, tmp_path, outcome):
    image = parts / 'test/stain/000.png'
    status, _, err = outcome('predict', model_file, image, '--output', tmp_path, '--explain')
    assert (status, err) == (0, [])
    assert Path('000.explanation.png') in listed(tmp_path)
    strip, explained = (read_image(tmp_path / f'000.{x}.png') for x in ('strip', 'explanation'))
    # The inspection, and under it a row for every scale.
    assert np.array_equal(explained[: len(strip), : strip.shape[1]], strip)
    assert len(explained) >= 3 * len(strip)
    assert explained[2 * len(strip) :].std() > 10


def test_predict_explains_into_a_folder_only(refused, model_file, parts):
    image = parts / 'test/stain/000.png'
    assert '--output DIR' in refused('predict', model_file, image, '--explain')


def test_predict_refuses_to_write_into_the_input_folder(refused, model_file, parts, tmp_path):
    folder = tmp_path / 'parts'
    shutil.copytree(parts / 'test/good', folder)
    line = refused('predict', model_file, folder / '000.png', '--output', folder)
    assert f'the pictures would be written into the input folder {folder}' in line
    assert len(listed(folder)) == 3


def test_an_exported_model_cannot_be_calibrated(refused, parts, tmp_path):
    exported = tmp_path / 'model.onnx'
    exported.write_bytes(b'exported')
    line = refused('calibrate', exported, parts / 'test/good')
    assert f'{exported} is an exported model: give the .safetensors file' in line


def test_predict_goes_on_after_an_unreadable_image(parts, model_file, tmp_path, outcome):
    broken, missing = tmp_path / 'broken.png', tmp_path / 'missing.png'
    broken.write_text('no image')
    good = parts / 'test/good/000.png'
    status, out, err = outcome('predict', model_file, broken, missing, good)
    assert status == 1
    assert len(out.splitlines()) == 1
    assert len(err) == 2
    assert 'broken.png' in err[0]
    assert 'missing.png' in err[1]


def test_predict_accepts_images_of_any_size_and_depth(model_file, tmp_path, outcome):
    write_image(tmp_path / 'wide.png', np.zeros((20, 90), np.uint8))
    write_image(tmp_path / 'wide2.png', np.zeros((20, 90), np.uint8))
    write_image(tmp_path / 'deep.tif', np.full((70, 69, 3), 40_000, np.uint16))
    status, out, err = outcome('predict', model_file, tmp_path, '--output', tmp_path / 'out')
    assert (status, len(out.splitlines())) == (0, 3)
    # Once, not with every image.
    (line,) = err
    assert line.startswith(
        f'{tmp_path / "wide.png"}: the aspect ratio of 90x20 px differs from training'
    )
    assert read_image(tmp_path / 'out/wide.mask.png').shape == (20, 90)


def test_train_reports_progress_as_json(parts, tmp_path, tiny):
    output = tmp_path / 'model.safetensors'
    command = ['train', '--data', parts, '--output', output, '--json-progress', *tiny]
    process = start_with_pipes(*command)
    lines = [json.loads(line) for line in process.stdout]
    assert exit_status(process) == 0
    assert output.is_file()
    assert lines[0]['stage'].startswith('calibration 1/5')
    assert lines[0]['seconds_left'] is None
    *steps, result = lines
    assert steps[-1]['step'] == steps[-1]['steps']
    assert steps[-1]['seconds_left'] < 60
    assert any(step['loss'] for step in steps)
    assert result['summary'][0].startswith('trained restoration on 8 images')


@pytest.mark.parametrize('stop', [lambda x: x.stdin.close(), lambda x: x.send_signal(SIGINT)])
def test_train_stops_when_its_parent_does(parts, tmp_path, tiny, stop):
    output = tmp_path / 'model.safetensors'
    slow = ['--set', 'flow_steps=100000']
    command = ['train', '--data', parts, '--output', output, '--json-progress', *tiny, *slow]
    process = start_with_pipes(*command)
    assert process.stdout.readline()
    stop(process)
    assert exit_status(process) == 130
    assert not list(tmp_path.iterdir())


def test_calibrate_updates_the_thresholds_and_keeps_the_previous_model(
    parts, model_file, tmp_path, outcome
):
    model = tmp_path / 'model.safetensors'
    shutil.copy(model_file, model)
    status, out, _ = outcome('calibrate', model, parts / 'test' / 'good', '--device', 'cpu')
    assert status == 0
    assert 'thresholds now based on 11 good parts (was 8)' in out
    assert load_artifact(model)[1].classes[0].calibration['images'] == 11
    assert (tmp_path / 'model.safetensors.before').read_bytes() == model_file.read_bytes()
    before = model.read_bytes()
    _, out, _ = outcome('calibrate', model, parts / 'test' / 'good', parts / 'train' / 'good')
    assert 'nothing to do' in out
    assert model.read_bytes() == before


@pytest.fixture
def painted(parts, tmp_path):
    """A good part with a spot of paint."""
    image = read_image(parts / 'test' / 'good' / '000.png')
    image[10:22, 26:38] = (220, 40, 30)
    write_image(tmp_path / 'painted.png', image)
    return tmp_path / 'painted.png'


def test_an_accepted_part_passes_after_calibration(painted, model_file, tmp_path, outcome):
    model = tmp_path / 'model.safetensors'
    shutil.copy(model_file, model)
    assert 'ok ' not in outcome('predict', model, painted)[1]
    outcome('calibrate', '--accept', model, painted)
    assert 'ok ' in outcome('predict', model, painted)[1]


def test_every_previous_model_is_kept(painted, parts, model_file, tmp_path, outcome):
    model = tmp_path / 'model.safetensors'
    shutil.copy(model_file, model)
    outcome('calibrate', model, parts / 'test' / 'good')
    second = model.read_bytes()
    _, out, _ = outcome('calibrate', '--accept', model, painted)
    assert f'the previous model is {model}.before_2' in out
    assert (tmp_path / 'model.safetensors.before').read_bytes() == model_file.read_bytes()
    assert (tmp_path / 'model.safetensors.before_2').read_bytes() == second


def test_calibrate_refuses_invalid_arguments(refused, parts, model_file, tmp_path):
    assert 'no model file' in refused(
        'calibrate', tmp_path / 'none.safetensors', parts / 'test/good'
    )
    assert 'cannot read image' in refused('calibrate', model_file, tmp_path / 'none.png')
    wide = tmp_path / 'wide.png'
    write_image(wide, np.zeros((20, 90), np.uint8))
    line = refused('calibrate', '--accept', model_file, wide)
    assert f'{wide} does not fit the model: ' in line


def test_calibrate_refuses_a_defect_without_accept(refused, painted, parts, model_file, tmp_path):
    model = tmp_path / 'model.safetensors'
    shutil.copy(model_file, model)
    before = model.read_bytes()
    line = refused('calibrate', model, painted, parts / 'test/good')
    assert line.startswith('flow-anomaly: 1 of 4 images look defective')
    assert f'--accept if a person has inspected all of these images: {painted} (' in line
    assert 'good/00' not in line
    # One by itself is refused as well.
    assert f': {painted} (' in refused('calibrate', model, painted)
    assert model.read_bytes() == before


def test_grey_images_do_not_fit_a_colour_model(refused, parts, model_file, tmp_path, outcome):
    good = parts / 'test' / 'good' / '000.png'
    image = read_image(good)
    write_image(tmp_path / 'grey.png', image[..., 1])
    line = refused('calibrate', '--accept', model_file, tmp_path / 'grey.png')
    assert 'the image is grey, but the model was trained in colour' in line
    _, _, errors = outcome('predict', model_file, tmp_path / 'grey.png', good)
    assert [line for line in errors if 'the image is grey' in line] == errors
    assert len(errors) == 1


def test_train_refuses_to_write_into_the_image_folder(parts, tmp_path, tiny, refused):
    good = tmp_path / 'good'
    shutil.copytree(parts / 'train' / 'good', good)
    line = refused('train', '--data', good, '--output', good / 'model.safetensors', *tiny)
    assert 'model.safetensors would be written into the image folder' in line


def test_a_full_disk_is_reported_with_the_file_name(
    parts, model_file, tmp_path, monkeypatch, outcome
):
    def fail(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_text', fail)
    results = tmp_path / 'results.json'
    status, _, err = outcome('evaluate', model_file, '--data', parts, '--json', results)
    assert (status, err) == (2, [f'flow-anomaly: {results}: No space left on device'])
    assert not listed(tmp_path)


def test_a_closed_stdout_exits_with_141():
    process = start_with_pipes('methods')
    process.stdout.close()
    assert exit_status(process) == 141


@pytest.mark.parametrize('method', METHODS)
def test_methods_lists_every_option_with_its_meaning(outcome, method):
    status, out, _ = outcome('methods')
    assert status == 0
    lines = out.splitlines()
    starts = [i for i, line in enumerate(lines) if not line.startswith(' ')] + [len(lines)]
    begin = next(i for i in starts if lines[i].startswith(f'{method}: '))
    lines = lines[begin : starts[starts.index(begin) + 1]]
    for name, field in METHODS[method].config.__dataclass_fields__.items():
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        index = next(i for i, line in enumerate(lines) if line.startswith(f'  {name} = '))
        assert f'= {default!r} (' in lines[index]
        assert lines[index + 1].startswith('      ')
    assert any(line.startswith('  --preset fast: ') for line in lines)


@pytest.mark.parametrize('command', [[], ['train'], ['evaluate'], ['predict'], ['methods']])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, '--help'])
    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert 'exit status:' in out
    assert '130' in out
    if command:
        assert f'example:\n  flow-anomaly {command[0]}' in out


def test_the_command_runs_as_a_process(parts, model_file, tmp_path):
    done = python_m('predict', model_file, parts / 'test/good/000.png', tmp_path / 'absent.png')
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    (line,) = done.stderr.splitlines()
    assert 'absent.png' in line


@pytest.mark.slow
@pytest.mark.parametrize(('backend', 'suffix'), [('onnx', '.onnx'), ('openvino', '.xml')])
def test_a_model_of_the_default_backbone_is_exported(parts, tmp_path, outcome, backend, suffix):
    for library in ('onnx', 'onnxscript', 'openvino' if backend == 'openvino' else 'onnxruntime'):
        pytest.importorskip(library)
    model = tmp_path / 'model.safetensors'
    few = ('augmented_samples', 'decoder_steps', 'restoring_steps', 'restoring_pairs')
    options = [argument for name in few for argument in ('--set', f'{name}=2')]
    arguments = ['--data', parts, '--output', model, '--max-images', 2, '--threads', 1, '--quiet']
    assert outcome('train', *arguments, *options)[0] == 0
    # Both are compared on test images before the file is written.
    exported = model.with_suffix(suffix)
    assert outcome('export', model, '--backend', backend, '--output', exported)[0] == 0
    assert exported.is_file()


# What every command refuses


@pytest.fixture
def refused(tmp_path, outcome):
    """Run a command line that must fail; returns the one line that says why."""

    def run(*arguments):
        before = listed(tmp_path)
        status, out, err = outcome(*arguments)
        assert (status, out, len(err)) == (2, '', 1), err
        assert err[0].startswith('flow-anomaly: ')
        assert listed(tmp_path) == before
        return err[0]

    return run


@pytest.fixture
def train_refused(parts, tmp_path, refused, tiny):
    """Run a training that must fail; later arguments replace the usual ones."""

    def run(*arguments):
        usual = ['--data', parts, '--output', tmp_path / 'model.safetensors', *tiny]
        return refused('train', *usual, *arguments)

    return run


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        ([], 'required: COMMAND'),
        (['teach'], "invalid choice: 'teach'"),
        (['train'], 'required: --data, --output; see flow-anomaly train --help'),
        (['evaluate', 'model.safetensors'], 'required: --data'),
        (['predict', 'model.safetensors'], 'required: IMAGE_OR_FOLDER'),
        (
            ['predict', 'model.safetensors', 'a.png', '--ouput', 'x'],
            'unknown arguments: --ouput x; see flow-anomaly predict --help',
        ),
    ],
)
def test_invalid_command_lines_are_refused(refused, arguments, reason):
    assert reason in refused(*arguments)


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['--max-images', '0'], "'0' must be an integer >= 1"),
        (['--max-images', 'ten'], "'ten' must be an integer >= 1"),
        (['--seed', '-1'], 'must be an integer >= 0'),
        (['--output', 'model.xml'], 'model.xml has the suffix of an exported model'),
        (['--image-size', '8'], 'must be an integer >= 32'),
        (['--tile', '0'], 'must be an integer >= 1'),
        (['--tile', '100'], 'tile is 100 px: it must be a multiple of 64'),
        (['--tile', '128'], 'tile is 128 px, but images are resized to 64x64'),
        (['--false-positive-rate', '0.5'], 'between 0 and 0.5'),
        (['--false-positive-rate', 'nan'], 'between 0 and 0.5'),
        (['--threads', '-2'], 'must be an integer >= 0'),
        (['--method', 'telepathy'], "unknown method 'telepathy'"),
        (['--preset', 'hasty'], "restoration has no preset 'hasty': choose one of fast"),
        (['--device', 'gpu7'], "device 'gpu7' is not available: use auto, cpu or cuda"),
        (['--set', 'flow_steps'], 'is not of the form name=value'),
        (['--set', '=3'], 'is not of the form name=value'),
        (['--set', 'flow_step=3'], 'unknown option flow_step'),
        (['--set', 'flow_steps=many'], 'flow_steps must be of type int'),
        (['--set', 'flow_steps=0'], 'flow_steps is 0'),
        (['--set', 'scales=[1.0'], 'is not valid YAML'),
        (['--backbone', 'no_such_net'], "unknown backbone 'no_such_net'"),
        (['--weights', 'net.pt'], 'name the network that it belongs to with --backbone'),
        (['--backbone', 'squeezenet1_1', '--weights', 'absent.pt'], 'no weights file at absent'),
        (['--config', 'absent.yaml'], 'cannot read options from absent.yaml'),
        (['--data', 'absent'], 'data folder absent does not exist'),
        (['--output', 'absent/model.safetensors'], 'there is no folder absent'),
        (['--output', '.'], 'it is a folder'),
    ],
)
def test_train_refuses_invalid_arguments(train_refused, arguments, reason):
    assert reason in train_refused(*arguments)


@pytest.mark.parametrize('text', ['a: [', '- 1\n- 2\n', '1: 2\n', '\x00'])
def test_train_refuses_an_invalid_config_file(train_refused, tmp_path, text):
    config = tmp_path / 'options.yaml'
    config.write_text(text)
    assert str(config) in train_refused('--config', config)


def test_train_refuses_bad_folders(train_refused, parts, tmp_path):
    empty, words, mixed = tmp_path / 'empty', tmp_path / 'words', tmp_path / 'mixed'
    for folder in (empty, words, mixed):
        folder.mkdir()
    assert 'no images' in train_refused('--data', empty)
    (words / '000.png').write_text('no image')
    assert 'none of the 1 files' in train_refused('--data', words)
    assert 'is a file' in train_refused('--data', words / '000.png')
    for size in (32, 48):
        write_image(mixed / f'{size}.png', np.zeros((size, size), np.uint8))
    assert 'images of good parts differ' in train_refused('--data', mixed)
    shutil.copytree(parts / 'test', tmp_path / 'half/test')
    assert 'no images of good parts' in train_refused('--data', tmp_path / 'half')


def test_train_strict_refuses_unreadable_files(train_refused, parts, tmp_path):
    folder = tmp_path / 'data'
    shutil.copytree(parts / 'train/good', folder)
    (folder / '003.png').write_text('no image')
    assert '003.png; repair or remove' in train_refused('--data', folder, '--strict')


@pytest.mark.parametrize('name', ['weights.safetensors', 'weights.pt'])
def test_train_refuses_weights_that_do_not_fit(train_refused, tmp_path, name):
    weights = tmp_path / name
    save_file({'other.weight': np.zeros(3, np.float32)}, weights)
    arguments = ['--backbone', 'squeezenet1_1', '--weights', weights]
    assert str(weights) in train_refused(*arguments, '--set', 'levels=[features.3]')


def test_train_interrupted_with_ctrl_c_leaves_no_files(parts, tmp_path, tiny, outcome, monkeypatch):
    def interrupt(_self, stage, step, _steps, _loss):
        if (stage, step) == ('flow', 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(StageProgress, '__call__', interrupt)
    arguments = ['--data', parts, '--output', tmp_path / 'model.safetensors', '--max-images', 1]
    assert outcome('train', *arguments, *tiny) == (130, '', ['flow-anomaly: interrupted'])
    assert listed(tmp_path) == []


def test_bad_models_are_refused(refused, parts, model_file, tmp_path):
    image = parts / 'test/good/000.png'
    cut, foreign = tmp_path / 'cut.safetensors', tmp_path / 'foreign.safetensors'
    cut.write_bytes(model_file.read_bytes()[:5000])
    save_file({'weight': np.zeros(3, np.float32)}, foreign)
    for model, reason in (
        (tmp_path / 'absent.safetensors', 'no model file'),
        (cut, 'damaged'),
        (foreign, 'has weights but no manifest'),
    ):
        output = tmp_path / 'pictures'
        assert reason in refused('predict', model, image, '--output', output)
        assert reason in refused('evaluate', model, '--data', parts, '--pictures', output)


def test_evaluate_refuses_invalid_arguments(refused, parts, model_file, tmp_path):
    plain, figures = parts / 'train/good', tmp_path / 'absent/figures.json'
    assert 'no test images' in refused('evaluate', model_file, '--data', plain)
    assert 'no folder' in refused('evaluate', model_file, '--data', parts, '--json', figures)
    pictures = plain / '000.png'
    assert 'cannot make the folder' in refused(
        'evaluate', model_file, '--data', parts, '--pictures', pictures
    )


def test_predict_refuses_an_empty_folder(refused, model_file, tmp_path):
    (tmp_path / 'empty').mkdir()
    assert 'no images in folder' in refused('predict', model_file, tmp_path / 'empty')


def test_predict_suggests_subfolders_that_contain_images(refused, model_file, parts):
    test = parts / 'test'
    line = refused('predict', model_file, test)
    assert line.endswith('such as ' + ' '.join(map(str, sorted(test.iterdir()))))


@pytest.mark.parametrize(
    'error', [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_out_of_memory_is_reported_in_one_line(monkeypatch, outcome, error):
    def exhausting(_arguments):
        raise error

    monkeypatch.setattr('flow_anomaly_ros.commands.methods.run', exhausting)
    status, _, errors = outcome('methods')
    assert status == 2
    assert len(errors) == 1
    assert 'out of memory' in errors[0]


def test_programming_errors_keep_their_traceback(monkeypatch):
    def broken(_arguments):
        raise RuntimeError

    monkeypatch.setattr('flow_anomaly_ros.commands.methods.run', broken)
    with pytest.raises(RuntimeError):
        cli.main(['methods'])


def test_help_does_not_wait_for_torch():
    """Importing torch takes seconds."""
    code = (
        'import sys; from flow_anomaly_ros import cli\n'
        'try: cli.main(sys.argv[1:])\n'
        'except SystemExit: pass\n'
        'sys.exit(any(name in sys.modules for name in ("torch", "cv2", "numpy")))'
    )
    for command in ([], *([name] for name in cli.COMMANDS)):
        run = subprocess.run(
            [sys.executable, '-c', code, *command, '--help'],
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, command
        assert 'usage: flow-anomaly' in run.stdout
        if command == ['train']:
            assert f'(default: {DEFAULT_METHOD})' in run.stdout


def test_former_names_of_options_still_work_and_say_what_to_write(parts, tmp_path, tiny, outcome):
    model = tmp_path / 'model.safetensors'
    arguments = ['--data', parts, '--output', model, '--max-images', 2, '--quiet', *tiny]
    former = ['--set', 'stored=9', '--set', 'second_images=[stored]']
    status, _, err = outcome('train', *arguments, *former)
    assert status == 0
    assert err[:3] == [
        'option stored is now called memory_bank_size: use memory_bank_size',
        'option second_images is now called reference_images: use reference_images',
        'stored of option reference_images is now called memory_bank',
    ]
    _, manifest = load_artifact(model)
    assert manifest.config['memory_bank_size'] == 9
    assert manifest.config['reference_images'] == ['memory_bank']


def test_a_training_request_survives_conversion_to_arguments():
    request = TrainingRequest(
        data=(Path('nuts and bolts'), Path('bolts')),
        output=Path('model.safetensors'),
        method='timenet',
        options={'flow_steps': 3, 'learning_rate': 1e-5, 'strides': [4, 8], 'textures': '2024'},
        weights=Path('net.pt'),
        max_images=7,
        strict=True,
        image_size=128,
        tile=64,
        false_positive_rate=0.05,
        seed=3,
        device='cpu',
        threads=2,
        checkpoints=Path('kept'),
    )
    for wanted in (request, TrainingRequest(data=(Path('a'),), output=Path('b.safetensors'))):
        parsed = cli.parse(['train', *wanted.to_arguments()])
        assert request_of(parsed) == (wanted, [])
