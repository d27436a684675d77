# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training is repeatable, and calibrates on parts that the scoring detector has not seen."""

import contextlib
import dataclasses
from dataclasses import dataclass

from flow_anomaly_ros.detectors import registry
from flow_anomaly_ros.detectors.base import (
    Cancelled,
    Detector,
    DetectorOutput,
    FitReport,
    LeaveOut,
)
from flow_anomaly_ros.detectors.checkpoints import NULL_CHECKPOINTS
from flow_anomaly_ros.detectors.method import Method
from flow_anomaly_ros.runtime.artifact import save_artifact
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.golden_sample import to_image, to_text
from flow_anomaly_ros.runtime.manifest import input_size_of
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import numpy as np
import pytest
import torch


@dataclass(frozen=True)
class MemoryConfig:
    channels: int = 3
    option: int = 1


class Memory(Detector):
    """Scores 1 what it has seen in training and 2 what it has not."""

    fits = 0

    def forward(self, images, classes=None):
        distances = (images[:, None] - self.seen[None]).abs().amax(dim=(2, 3, 4))
        scores = 1 + (distances.amin(1) > 1e-6).float()
        return DetectorOutput(scores[:, None, None].expand(-1, *images.shape[-2:]), scores)


def remember(detector, images, seed=0, progress=None, checkpoints=NULL_CHECKPOINTS, classes=None):
    type(detector).fits += 1
    detector.seen, detector.classes = images, classes
    checkpoints.load('remember')
    checkpoints.save('remember', dict, is_over=True)
    progress('remember', 1, 1, None)
    return FitReport()


@dataclass(frozen=True)
class ClassMemoryConfig(MemoryConfig):
    classes: tuple[str, ...] = ()


class ClassMemory(Memory):
    """Scores as much more as the class is further down the list."""

    def forward(self, images, classes=None):
        output = super().forward(images)
        known = torch.zeros(len(images), dtype=torch.long) if classes is None else classes
        return DetectorOutput(output.score_map, output.image_score + 10 * known, known)


@pytest.fixture
def memory(monkeypatch):
    """A method that knows its training images."""
    for name, detector, config in (
        ('memory', Memory, MemoryConfig),
        ('class_memory', ClassMemory, ClassMemoryConfig),
    ):
        method = Method(name, 'remembers', 'none', config, detector, remember, {'fast': {}})
        monkeypatch.setitem(registry.METHODS, name, method)
    monkeypatch.setattr(Memory, 'fits', 0)
    return 'memory'


def different_images(count):
    generator = np.random.default_rng(0)
    return [*generator.integers(0, 1000, (count, *(32, 32)), np.uint16)]


def short(options):
    return options | {'flow_steps': 4}


def test_the_same_seed_gives_the_same_detector(good_images, tiny_options):
    def tensors(seed):
        torch.seed()  # the state of the caller does not matter
        trained = train(
            TrainingRequest(
                method='restoration', options=short(tiny_options), seed=seed, device='cpu'
            ),
            TrainingDataset(good_images[:2]),
        )
        return trained.detector.state_dict(), trained.manifest.thresholds

    first, second, other = tensors(1), tensors(1), tensors(2)
    assert first[1] == second[1] != other[1]
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    assert any(not torch.equal(first[0][name], other[0][name]) for name in first[0])


@pytest.mark.parametrize('count', [2, 3, 10, 40])
def test_few_images_are_all_held_out_once_and_all_trained_on(memory, count):
    training = train(
        TrainingRequest(method=memory, device='cpu'), TrainingDataset(different_images(count))
    )
    assert training.manifest.classes[0].calibration['image_scores'] == [2.0] * count
    assert len(training.detector.seen) == count
    assert Memory.fits == min(5, count) + 1


def test_a_share_of_many_images_is_never_trained_on(memory):
    training = train(
        TrainingRequest(method=memory, device='cpu'), TrainingDataset(different_images(250))
    )
    assert training.manifest.classes[0].calibration['image_scores'] == [2.0] * 50
    assert len(training.detector.seen) == 200
    assert Memory.fits == 1


def test_one_image_is_enough_to_train(memory, good_images, tiny_options):
    assert (
        train(TrainingRequest(method=memory, device='cpu'), TrainingDataset(different_images(1)))
        .manifest.thresholds[0]
        .defect
        > 1
    )
    trained = train(
        TrainingRequest(method='restoration', options=short(tiny_options), device='cpu'),
        TrainingDataset(good_images[:1]),
    )
    engine = Engine.of(trained.detector, trained.manifest, 'cpu')
    assert engine.inspect(good_images[:1])[0].verdict == 'ok'
    assert not trained.manifest.golden_sample


def test_the_golden_sample_of_a_model_must_be_classified_as_ok(training, good_images, tmp_path):
    manifest = training.manifest
    image = to_image(manifest.golden_sample, manifest.input_size)
    assert any(np.array_equal(image, good_image) for good_image in good_images)
    Engine.of(training.detector, manifest, 'cpu').require_golden_sample()
    (part_class,) = manifest.classes
    limits = dataclasses.replace(part_class.thresholds, uncertain=0.0)
    strict = dataclasses.replace(
        manifest, classes=(dataclasses.replace(part_class, thresholds=limits),)
    )
    path = tmp_path / 'model.safetensors'
    save_artifact(path, training.detector, strict)
    message = (
        r'model\.safetensors cannot be used with PyTorch on cpu: its golden sample .* uncertain \('
    )
    with pytest.raises(ValueError, match=message):
        Engine.load(path, 'cpu')
    for damaged in ('no image', 'aGk=', to_text(image[:-1]), to_text(image.astype(np.uint16))):
        other = dataclasses.replace(manifest, golden_sample=damaged)
        with pytest.raises(ValueError, match='is not an image of 64x64 px'):
            Engine.of(training.detector, other, 'cpu').require_golden_sample()


@pytest.mark.parametrize(('counts', 'held_out'), [((4, 7), (4, 7)), ((110, 150), (40, 40))])
@pytest.mark.usefixtures('memory')
def test_each_class_has_thresholds_of_parts_of_its_own(counts, held_out):
    images = different_images(sum(counts))
    classes = ['nut'] * counts[0] + ['bolt'] * counts[1]
    training = train(
        TrainingRequest(method='class_memory', device='cpu'),
        TrainingDataset(images, tuple(classes)),
    )
    first, second = training.manifest.classes
    assert (first.name, second.name) == ('nut', 'bolt')
    # Each was scored as what it is, by a detector that had not seen it.
    assert first.calibration_scores == (2.0,) * held_out[0]
    assert second.calibration_scores == (12.0,) * held_out[1]
    assert first.thresholds.defect < 12 < second.thresholds.defect
    assert training.manifest.config['classes'] == ('nut', 'bolt')
    assert training.detector.classes.bincount().min() > 0


@pytest.mark.usefixtures('memory')
def test_classes_of_other_sizes_and_colours_go_into_one_model():
    images = [np.full((40, 40), value, np.uint8) for value in (0, 9)]
    images += [np.full((64, 128, 3), value, np.uint8) for value in (0, 9)]
    classes = ['nut', 'nut', 'bolt', 'bolt']
    training = train(
        TrainingRequest(method='class_memory', device='cpu', image_size=64),
        TrainingDataset(images, tuple(classes)),
    )
    assert training.manifest.config['channels'] == 3
    assert training.manifest.input_size == (40, 40)


@pytest.mark.parametrize(
    ('method', 'classes', 'tile', 'words'),
    [
        ('memory', ['nut', 'nut', 'bolt', 'bolt'], None, 'memory learns one class of parts'),
        ('class_memory', ['nut', 'nut', 'nut', 'bolt'], None, 'class bolt has one image'),
        ('class_memory', ['nut', 'nut', 'bolt', 'bolt'], 64, 'train one model per class'),
    ],
)
@pytest.mark.usefixtures('memory')
def test_classes_that_cannot_be_learned_are_refused(method, classes, tile, words):
    with pytest.raises(ValueError, match=words):
        train(
            TrainingRequest(method=method, device='cpu', tile=tile),
            TrainingDataset(different_images(4), tuple(classes)),
        )


def test_channels_come_from_the_images(good_images, tiny_options):
    grey = [image[..., 0] for image in good_images[:2]]
    training = train(
        TrainingRequest(method='restoration', options=short(tiny_options), device='cpu'),
        TrainingDataset(grey),
    )
    assert training.manifest.config['channels'] == 1
    engine = Engine.of(training.detector, training.manifest, 'cpu')
    assert engine.inspect([good_images[0]])[0].mask.shape == (64, 64)


@pytest.mark.parametrize('factor', [257, 4])
def test_grey_images_of_more_than_8_bits_give_the_verdicts_of_8_bit_images(
    good_images, tiny_options, factor
):
    shallow = [image[..., 0] for image in good_images[:4]]
    deep = [image.astype(np.uint16) * factor for image in shallow]
    verdicts = []
    for images in (shallow, deep):
        trained = train(
            TrainingRequest(method='restoration', options=short(tiny_options), device='cpu'),
            TrainingDataset(images),
        )
        engine = Engine.of(trained.detector, trained.manifest, 'cpu')
        stained = images[0].copy()
        stained[20:36, 20:36] = 255 * (1 if images is shallow else factor)
        good, bad = engine.inspect([images[0]])[0], engine.inspect([stained])[0]
        assert bad.image_score > 5 * good.image_score
        verdicts.append((trained.manifest.thresholds[0].defect, bad.image_score))
    # Levels of 1020 / 1023 where 255 / 255 are 1.
    assert verdicts[0] == pytest.approx(verdicts[1], rel=1e-3 if factor == 257 else 0.05)


@pytest.mark.parametrize(('count', 'warnings'), [(1, 1), (3, 1), (4, 0)])
def test_a_warning_says_that_few_images_make_thresholds_unreliable(memory, count, warnings):
    found = train(
        TrainingRequest(method=memory, device='cpu'), TrainingDataset(different_images(count))
    ).warnings
    assert [line for line in found if 'thresholds are unreliable' in line] == found
    assert len(found) == warnings


class Forgetful(Memory):
    """Leaves out images when it is asked to."""


def remember_and_forget(detector, images, *arguments, **options):
    report = remember(detector, images, *arguments, **options)
    groups = [[*range(start, len(images), 3)] for start in range(3)]

    @contextlib.contextmanager
    def without(group):
        seen = detector.seen
        kept = [index for index in range(len(images)) if index not in groups[group]]
        detector.seen = seen[kept]
        yield
        detector.seen = seen

    report.leave_out = LeaveOut(groups, without)
    return report


@pytest.mark.parametrize('count', [3, 7, 120])
def test_a_detector_that_can_leave_out_images_is_trained_once(monkeypatch, count):
    method = Method(
        'forgetful',
        'forgets',
        'none',
        MemoryConfig,
        Forgetful,
        remember_and_forget,
        {'fast': {}},
        can_leave_out=lambda _: True,
    )
    monkeypatch.setitem(registry.METHODS, 'forgetful', method)
    monkeypatch.setattr(Forgetful, 'fits', 0)
    images = different_images(count)
    training = train(TrainingRequest(method='forgetful', device='cpu'), TrainingDataset(images))
    assert Forgetful.fits == 1
    assert training.manifest.classes[0].calibration_scores == (2.0,) * count
    assert len(training.detector.seen) == count
    # The data of the training is released.
    assert training.report.leave_out is None


def test_a_part_that_was_photographed_twice_counts_once(memory):
    request = TrainingRequest(method=memory, device='cpu')
    images = different_images(5)
    noise = np.random.default_rng(0).integers(0, 3, images[1].shape).astype(np.uint16)
    once = train(request, TrainingDataset(images))
    twice = train(request, TrainingDataset([images[0], *images, images[1] + noise]))
    assert once.duplicates == {}
    assert twice.duplicates == {1: 0, 6: 2}
    assert twice.manifest.classes == once.manifest.classes
    assert twice.manifest.training['images'] == 5
    # Calibration knows them all the same.
    assert len(twice.manifest.training['digests']) == 7


def test_duplicates_are_looked_for_within_a_class(memory):
    request = TrainingRequest(method='class_memory', device='cpu')
    images = different_images(3)
    dataset = TrainingDataset([*images, *images], classes=('a',) * 3 + ('b',) * 3)
    assert train(request, dataset).duplicates == {}
    dataset = TrainingDataset([*images, images[0], images[0]], classes=('a',) * 3 + ('b',) * 2)
    with pytest.raises(ValueError, match='class b has one image'):
        train(request, dataset)


def test_a_defect_among_good_parts_is_found(good_images, tiny_options):
    images = [*good_images]
    options = short(tiny_options)
    assert (
        train(
            TrainingRequest(method='restoration', options=options, device='cpu'),
            TrainingDataset(images),
        ).outliers
        == {}
    )
    images[3] = images[3].copy()
    images[3][20:36, 20:36] = 255
    ((index, score),) = train(
        TrainingRequest(method='restoration', options=options, device='cpu'),
        TrainingDataset(images),
    ).outliers.items()
    assert index == 3
    assert score > 0


def test_progress_names_every_stage(good_images, tiny_options):
    calls = []
    report = train(
        TrainingRequest(method='restoration', options=short(tiny_options), device='cpu'),
        TrainingDataset(good_images[:2]),
        lambda *call: calls.append(call),
    ).report
    stages = list(dict.fromkeys(stage for stage, *_ in calls))
    prefixes = ('calibration 1/2 ', 'calibration 2/2 ', '')
    # With a single image there is none to hold out.
    assert stages == [
        *(prefix + stage for prefix in prefixes for stage in ('registration', 'features', 'flow')),
        'held-out distances',
    ]
    flow = [(step, steps, loss) for stage, step, steps, loss in calls if stage == 'flow']
    assert [(step, steps) for step, steps, _ in flow] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [loss for *_, loss in flow] == report.losses['flow']


def test_cancelling_stops_between_two_steps(good_images, tiny_options):
    steps = []
    random_state = torch.get_rng_state()

    def cancel(stage, step, _steps, _loss):
        steps.append((stage, step))
        if len(steps) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(
            TrainingRequest(method='restoration', options=tiny_options, device='cpu'),
            TrainingDataset(good_images[:2]),
            cancel,
        )
    assert len(steps) == 3
    assert torch.equal(torch.get_rng_state(), random_state)


def test_checkpoints_resume_only_the_training_that_wrote_them(memory, tmp_path):
    weights = tmp_path / 'weights.safetensors'
    weights.write_bytes(b'ones')
    given = {'weights': weights, 'device': 'cpu', 'checkpoints': tmp_path / 'checkpoints'}

    def refused(images, **changed):
        with pytest.raises(ValueError, match='belongs to a different training run'):
            train(TrainingRequest(method=memory, **{**given, **changed}), TrainingDataset(images))

    train(TrainingRequest(method=memory, **given), TrainingDataset(different_images(3)))
    train(TrainingRequest(method=memory, **given), TrainingDataset(different_images(3)))
    refused(different_images(4))
    refused(different_images(3), seed=1)
    refused(different_images(3), options={'option': 2})
    weights.write_bytes(b'others')
    refused(different_images(3))


@pytest.mark.parametrize('rate', [0.0, 0.5, -1.0, float('nan')])
def test_an_impossible_rate_is_refused_before_training(memory, rate):
    with pytest.raises(ValueError, match='false_positive_rate'):
        train(
            TrainingRequest(method=memory, false_positive_rate=rate, device='cpu'),
            TrainingDataset(different_images(3)),
        )
    assert Memory.fits == 0


def test_unknown_option_is_refused(good_images):
    with pytest.raises(ValueError, match='unknown option flow_step'):
        train(
            TrainingRequest(method='restoration', options={'flow_step': 1}, device='cpu'),
            TrainingDataset(good_images),
        )


@pytest.mark.parametrize(
    ('image_size', 'shorter', 'expected'),
    [
        ((480, 640), 256, (256, 344)),
        ((900, 900), 256, (256, 256)),
        ((64, 64), 256, (64, 64)),
        ((293, 293), 224, (224, 224)),  # 293 * (224 / 293) is above 224
        ((20, 3000), 256, (32, 3000)),
        ((3000, 1000), 256, (768, 256)),
    ],
)
def test_input_size_keeps_the_aspect_and_never_enlarges_much(image_size, shorter, expected):
    assert input_size_of(image_size, shorter) == expected


@pytest.mark.parametrize(
    ('method', 'options'), [('restoration', {'channels': 1}), ('timenet', {'classes': ['a', 'b']})]
)
def test_options_derived_from_the_images_cannot_be_set(good_images, method, options):
    with pytest.raises(ValueError, match=f'{next(iter(options))} cannot be set'):
        train(
            TrainingRequest(method=method, options=options, device='cpu'),
            TrainingDataset(good_images),
        )
