# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""TimeNet: classes, stages, and what restores an image."""

import dataclasses

from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.detectors.timenet.config import TimeNetConfig
from flow_anomaly_ros.detectors.timenet.model import NOISE_SIDE, TimeNetDetector
from flow_anomaly_ros.detectors.timenet.rectified_flow import euler
from flow_anomaly_ros.detectors.timenet.training import fit
import numpy as np
import pytest
import torch

SMALL = {
    'classes': ('dark', 'light'),
    'backbone': 'squeezenet1_1',
    'strides': (4, 8),
    'block': 2,
    'latents': 6,
    'base': 8,
    'multipliers': (1, 2),
    'pairs': 4,
    'augmented_samples': 8,
    'flow_steps': 40,
    'reflow_steps': 20,
    'perception_steps': 40,
    'batch': 4,
    'learning_rate': 1e-2,
    'smoothing': 1.0,
    'pooling': 1,
}
SIZE = (24, 40)


def build(**options):
    torch.manual_seed(0)
    return TimeNetDetector(TimeNetConfig(**{**SMALL, **options}))


def parts():
    """Two images of each of two classes, and the classes."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.linspace(0, 6, SIZE[0])[:, None]
    columns = torch.linspace(0, 6, SIZE[1])
    dark = 0.25 + 0.15 * rows.sin() * columns.cos()
    light = 0.75 + 0.15 * (2 * rows).cos() * columns.sin()
    patterns = torch.stack([dark, dark, light, light])[:, None].expand(-1, 3, -1, -1)
    noise = 0.01 * torch.randn(patterns.shape, generator=generator)
    return (patterns + noise).clamp(0, 1), torch.tensor([0, 0, 1, 1])


@pytest.fixture(scope='module')
def fitted():
    detector = build()
    images, classes = parts()
    return detector, fit(detector, images, classes=classes)


@pytest.fixture
def detector(fitted):
    return fitted[0]


@torch.no_grad()
def test_the_given_class_affects_the_restoration_and_the_scores(detector):
    image = parts()[0][:1]
    right, wrong = torch.tensor([0]), torch.tensor([1])
    assert detector(image, right).image_score < detector(image, wrong).image_score
    restored = [detector.restore(image, part_class).images for part_class in (right, wrong)]
    errors = [(image_restored - image).square().mean().item() for image_restored in restored]
    assert errors[0] < errors[1]


@torch.no_grad()
def test_a_class_that_is_not_given_is_estimated(detector):
    images, classes = parts()
    for given in (None, torch.full((4,), -1), torch.tensor([0, -1, -1, 1])):
        output = detector(images, given)
        assert torch.equal(output.classes, classes)
        assert torch.equal(output.score_map, detector(images, classes).score_map)
    # What is given is believed.
    assert detector(images, 1 - classes).classes.tolist() == [1, 1, 0, 0]


@torch.no_grad()
def test_the_same_image_gets_the_same_score_each_time(detector):
    images, classes = parts()
    assert torch.equal(detector(images, classes).score_map, detector(images, classes).score_map)


def test_the_curvature_is_reported_before_and_after_a_reflow(fitted):
    (note,) = (note for note in fitted[1].notes if note.startswith('reflow'))
    assert 'before' in note
    assert 'after' in note


def test_stages_follow_one_another(fitted):
    assert [*fitted[1].losses] == ['flow', 'reflow 1', 'perception']
    losses = fitted[1].losses['perception']
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize(('reflows', 'perception'), [(0, False), (2, False), (0, True)])
def test_stages_can_be_left_out_and_repeated(reflows, perception):
    detector = build(
        reflows=reflows, perception=perception, flow_steps=2, reflow_steps=2, perception_steps=2
    )
    images, classes = parts()
    report = fit(detector, images, classes=classes)
    wanted = ['flow', *(f'reflow {k + 1}' for k in range(reflows)), *['perception'] * perception]
    assert [*report.losses] == wanted
    assert ('time' in detector.explain(images)[0]) == perception


def test_the_perception_network_is_trained_while_the_flow_is_frozen():
    images, classes = parts()
    few = {'flow_steps': 3, 'reflow_steps': 3, 'perception_steps': 3}
    without, beside = build(perception=False, **few), build(**few)
    for detector in (without, beside):
        fit(detector, images, classes=classes)
    flow = beside.denoiser.state_dict()
    # The same choices are made up to there.
    assert all(torch.equal(x, flow[name]) for name, x in without.denoiser.state_dict().items())
    untrained = build().perception.state_dict()
    assert any(
        not torch.equal(x, untrained[name]) for name, x in beside.perception.state_dict().items()
    )


@torch.no_grad()
def test_several_steps_follow_the_flow(detector):
    images, classes = parts()
    config = dataclasses.replace(detector.config, perception=False, steps=3)
    stepping = TimeNetDetector(config)
    state = detector.state_dict()
    stepping.load_state_dict({k: v for k, v in state.items() if not k.startswith('perception')})
    stepping.eval()
    noised = stepping.encode(stepping.restore(images, classes).noised)
    followed = euler(stepping.velocity(classes), noised, config.time, 3)
    torch.testing.assert_close(
        stepping.decode(followed, SIZE),
        stepping.restore(images, classes).images,
        atol=0.02,
        rtol=0,
    )


@torch.no_grad()
@pytest.mark.parametrize('size', [(24, 40), (26, 42), (NOISE_SIDE * 2 + 8, 24)])
def test_images_of_all_sizes_are_restored_whole(detector, size):
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    restored = detector.restore(images, torch.tensor([0]))
    assert restored.images.shape == restored.noised.shape == images.shape
    assert tuple(detector(images).score_map.shape) == (1, *size)


def test_images_of_all_sizes_are_learned_from():
    images, classes = parts()
    detector = build(flow_steps=1, reflow_steps=1, perception_steps=1)
    images = images[..., 2:, 3:]
    fit(detector, images, classes=classes)
    assert tuple(detector(images).score_map.shape) == (4, *images.shape[-2:])


def test_every_class_needs_an_image():
    images, _ = parts()
    with pytest.raises(ValueError, match='no image of class light'):
        fit(build(), images)


def test_textures_of_a_folder_are_used(tmp_path):
    images, classes = parts()
    with pytest.raises(ValueError, match=r'texture folder .* does not exist'):
        fit(build(textures=str(tmp_path / 'missing')), images, classes=classes)
    write_image(tmp_path / 'red.png', np.full((40, 40, 3), (255, 0, 0), np.uint8))
    few = {'flow_steps': 2, 'reflow_steps': 2, 'perception_steps': 3}
    losses = [
        fit(build(**few, textures=folder), images, classes=classes).losses['perception']
        for folder in ('', str(tmp_path))
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'steps': 3}, 'unless perception is false'),
        ({'time': 1.0}, 'time is 1.0'),
        ({'space': 'words'}, 'one of pixel, autoencoder'),
        ({'classes': ('a', 'a')}, 'unique names'),
        ({'level_weights': (7.0, 7.0, 7.0)}, 'one number for all levels'),
        ({'attention': 3}, 'at most the number of multipliers'),
        ({'multipliers': ()}, '1 to 8 numbers'),
        ({'tolerance': 0.0}, 'greater than 0'),
        ({'strides': (2, 4, 8, 16, 32, 64)}, 'has [0-9] levels of the strides'),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)
