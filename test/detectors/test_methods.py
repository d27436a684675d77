# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every detection method promises, whatever it does inside."""

import math

from flow_anomaly_ros.detectors.base import Cancelled, FitReport
from flow_anomaly_ros.detectors.registry import build_config, find_method, find_preset, METHODS
from flow_anomaly_ros.layers.quantisation import is_quantised
from flow_anomaly_ros.scoring.metrics import auroc
import pytest
from safetensors.torch import load, save
import torch

SIZE = (24, 40)
# Options that make a method small enough for a test; a method may have several ways to work.
OPTIONS = {
    'cainnflow': [
        {
            'backbone': 'squeezenet1_1',
            'levels': ['features.4', 'features.7'],
            'form': form,
            'int8': form == 'AC',
            'augmented_samples': 4,
            'steps': 5,
            'batch': 2,
            'smoothing': 1.0,
        }
        for form in ('CAC', 'CA', 'AC')
    ],
    'feature_fusion': [
        {
            'backbone': 'squeezenet1_1',
            'levels': ['features.4', 'features.7', 'features.12'],
            'stride': 4,
            'hidden': 16,
            'features': 8,
            'texture_levels': 8,
            'pair_levels': 4,
            'augmented_samples': 4,
            'steps': 40,
            'batch': 8,
            'learning_rate': 1e-2,
            'smoothing': 1.0,
            **options,
        }
        for options in (
            {},
            {
                'int8': True,
                'texture': False,
                'self_calibration': False,
                'score_loss': False,
                'consistency_loss': False,
            },
        )
    ],
    'nf_bmr': [
        {
            'backbone': 'squeezenet1_1',
            'levels': ['features.4', 'features.7'],
            'stride': 4,
            'components': 8,
            'flow_hidden': 8,
            'hidden': 8,
            'mapping': mapping,
            'int8': mapping == 'plain',
            'augmented_samples': 4,
            'batch': 2,
            'flow_steps': 5,
            'mapping_steps': 5,
            'smoothing': 1.0,
        }
        for mapping in ('residual', 'plain', 'none')
    ],
    'timenet': [
        {
            'backbone': 'squeezenet1_1',
            'strides': [4, 8],
            'base': 8,
            'multipliers': [1, 2],
            'pairs': 3,
            'augmented_samples': 4,
            'flow_steps': 15,
            'reflow_steps': 5,
            'perception_steps': 15,
            'batch': 2,
            'learning_rate': 1e-2,
            'smoothing': 1.0,
            'pooling': 1,
            **options,
        }
        for options in (
            {'block': 2, 'latents': 6},
            {
                'space': 'pixel',
                'reflows': 0,
                'int8': True,
                'flow_steps': 30,
                'perception_steps': 30,
            },
        )
    ],
    'restoration': [
        {
            'backbone': 'pixels',
            'stride': 4,
            'hidden': 8,
            'blocks': 2,
            'augmented_samples': 6,
            'flow_steps': 8,
            'smoothing': 1.0,
        },
        *(
            {
                'backbone': 'squeezenet1_1',
                'levels': ['features.4', 'features.7'],
                'int8': int8,
                'scales': [1.0, 0.5],
                'components': 8,
                'hidden': 8,
                'blocks': 2,
                'augmented_samples': 4,
                'flow_steps': 5,
                'reference_images': ['memory_bank', 'restored', *(['nearest'] if int8 else [])],
                'restoring_pairs': 8,
                'restoring_steps': 5,
                'restoring_width': 8,
                'decoder_steps': 5,
                'smoothing': 1.0,
            }
            for int8 in (False, True)
        ),
    ],
}
CASES = [(method, options) for method in METHODS for options in OPTIONS.get(method, [{}])]


def limit_steps(options, maximum):
    """Return options with no stage of more training steps than the maximum."""
    return {k: min(v, maximum) if k.endswith('steps') else v for k, v in options.items()}


def good_images(count, channels=3):
    """Make a smooth pattern that all images share, with a little noise."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(*(torch.linspace(0, 6, n) for n in SIZE), indexing='ij')
    phases = torch.arange(channels)[:, None, None]
    pattern = 0.5 + 0.3 * torch.sin(rows + phases) * torch.cos(columns)
    noise = torch.randn(count, channels, *SIZE, generator=generator)
    return (pattern + 0.02 * noise).clamp(0, 1)


def fit(case, detector, images, *arguments, **options):
    """Train a detector of a case's method."""
    return find_method(case[0]).fit(detector, images, *arguments, **options)


def build(case, seed=0, channels=3):
    method, options = case
    torch.manual_seed(seed)
    return find_method(method).detector(build_config(method, {**options, 'channels': channels}))


@pytest.fixture(scope='module', params=CASES, ids=lambda case: case[0])
def case(request):
    return request.param


@pytest.fixture
def short_case(case):
    """Return the case with few training steps, for tests that do not depend on what is learned."""
    method, options = case
    return method, limit_steps(options, 4)


@pytest.fixture(scope='module')
def training(case):
    """Return a detector fitted to four images, its report, and the calls of progress."""
    detector = build(case)
    torch.manual_seed(1)
    calls = []
    report = fit(case, detector, good_images(4), 3, lambda *call: calls.append(call))
    return detector, report, calls


@pytest.fixture
def detector(training):
    return training[0]


@torch.no_grad()
def score(detector, images):
    return detector(images)


def assert_same(first, second):
    assert torch.equal(first.score_map, second.score_map)
    assert torch.equal(first.image_score, second.image_score)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_has_a_fast_preset(method):
    assert build_config(method, find_preset(method, 'fast')) != build_config(method, {})


def test_every_method_has_small_options():
    assert sorted(OPTIONS) == sorted(METHODS)


def test_detection_does_not_synchronise_with_the_host(detector, host_operations):
    assert not host_operations(detector, good_images(2))


@pytest.mark.parametrize('count', [1, 3])
def test_scores_have_the_size_of_the_images(detector, count):
    output = score(detector, good_images(count))
    assert tuple(output.score_map.shape) == (count, *SIZE)
    assert tuple(output.image_score.shape) == (count,)
    for scores in output[:2]:
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()


def test_a_fitted_detector_is_in_evaluation_mode(detector):
    assert not detector.training


def test_a_stain_scores_higher_than_a_good_part(detector):
    images = good_images(2)
    images[1, :, 8:16, 24:32] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    good, bad = score(detector, images).image_score
    assert bad > 2 * good


@pytest.mark.parametrize('method', METHODS)
def test_training_lifts_the_pixel_auroc_of_a_stain_well_above_chance(method):
    rows, columns = torch.meshgrid(*(torch.linspace(0, 6, 48) for _ in range(2)), indexing='ij')
    good = (0.5 + 0.3 * rows.sin() * columns.cos()).expand(4, 3, -1, -1).clone()
    bad = good[:1].clone()
    bad[:, :, 16:28, 20:32] = torch.tensor([1.0, 0.1, 0.1])[:, None, None]
    mask = torch.zeros(1, 48, 48, dtype=torch.bool)
    mask[:, 16:28, 20:32] = True
    steps = {name: 40 for name in OPTIONS[method][0] if name.endswith('steps')}
    case = method, {**OPTIONS[method][0], **steps}
    detector = build(case)
    fit(case, detector, good)
    assert auroc(score(detector, bad).score_map.numpy(), mask.numpy()) > 0.85


def test_the_same_seed_gives_the_same_detector(case, training):
    again = build(case)
    torch.manual_seed(2)
    report = fit(case, again, good_images(4), 3)
    assert report.losses == training[1].losses
    assert_same(score(again, good_images(2)), score(training[0], good_images(2)))


def test_training_reaches_every_trained_part_and_no_frozen_one(short_case):
    detector = build(short_case)
    before = {name: x.detach().clone() for name, x in detector.named_parameters()}
    fit(short_case, detector, good_images(4))
    for name, parameter in detector.named_parameters():
        changed = not torch.equal(parameter, before[name])
        assert changed == parameter.requires_grad, name


def test_fitting_leaves_the_images_alone(short_case):
    images = good_images(2)
    fit(short_case, build(short_case), images)
    assert torch.equal(images, good_images(2))


def test_a_saved_state_gives_the_same_scores(case, detector):
    other = build(case, seed=9)
    # As model files hold it, which take no tensor twice.
    other.load_state_dict(load(save(detector.state_dict())))
    other.eval()
    assert_same(score(other, good_images(2)), score(detector, good_images(2)))


def test_scores_are_finite_for_extreme_images(detector):
    board = (torch.arange(SIZE[0])[:, None] + torch.arange(SIZE[1])) % 2.0
    images = torch.stack([torch.zeros(SIZE), torch.ones(SIZE), board])[:, None]
    for scores in score(detector, images.expand(-1, 3, -1, -1))[:2]:
        assert scores.isfinite().all()


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_training_on_images_of_one_colour_gives_finite_scores(short_case, value):
    detector = build(short_case)
    fit(short_case, detector, torch.full((2, 3, *SIZE), value))
    for scores in score(detector, torch.cat([good_images(1), torch.zeros(1, 3, *SIZE)]))[:2]:
        assert scores.isfinite().all()


def test_a_batch_gives_the_scores_of_its_images(detector):
    images = good_images(3)
    images[1] = 1 - images[1]
    batch = score(detector, images)
    # What lies between two whole numbers may be rounded to the other one.
    rtol = 0.03 if is_quantised(detector) else 1e-3
    for index in range(len(images)):
        alone = score(detector, images[index : index + 1])
        of_batch = batch.score_map[index]
        torch.testing.assert_close(alone.score_map[0], of_batch, rtol=rtol, atol=1e-4)
        of_batch = batch.image_score[index]
        torch.testing.assert_close(alone.image_score[0], of_batch, rtol=rtol, atol=1e-4)


@pytest.mark.parametrize('channels', [1, 3])
def test_one_image_is_enough(short_case, channels):
    detector = build(short_case, channels=channels)
    fit(short_case, detector, good_images(1, channels))
    output = score(detector, good_images(2, channels))
    assert tuple(output.score_map.shape) == (2, *SIZE)
    assert output.image_score.isfinite().all()


def test_progress_counts_the_steps_of_every_stage(training):
    _, report, calls = training
    assert isinstance(report, FitReport)
    stages = list(dict.fromkeys(stage for stage, *_ in calls))
    assert all(stages)
    # A stage is over before the next one begins, and every step of it is told once.
    expected = []
    for stage in stages:
        steps = next(steps for name, _, steps, _ in calls if name == stage)
        expected += [(stage, step, steps) for step in range(1, steps + 1)]
    assert [call[:3] for call in calls] == expected
    for stage in stages:
        losses = [loss for name, _, _, loss in calls if name == stage and loss is not None]
        assert losses == report.losses.get(stage, [])
        assert all(math.isfinite(loss) for loss in losses)
    assert set(report.losses) <= set(stages)


def test_training_can_be_cancelled_in_every_stage(short_case, training):
    for wanted in {stage for stage, *_ in training[2]}:

        def cancel(stage, step, _steps, _loss, wanted=wanted):
            if stage == wanted:
                raise Cancelled(stage, step)

        with pytest.raises(Cancelled) as caught:
            fit(short_case, build(short_case), good_images(2), progress=cancel)
        assert caught.value.args == (wanted, 1)
