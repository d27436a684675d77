# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Feature fusion: parts that can be left out, what is trained on, and what the score is."""

from flow_anomaly_ros.detectors.feature_fusion.config import FeatureFusionConfig
from flow_anomaly_ros.detectors.feature_fusion.losses import hypersphere_distance
from flow_anomaly_ros.detectors.feature_fusion.model import FeatureFusionDetector
from flow_anomaly_ros.detectors.feature_fusion.network import SelfCalibration, TextureNetwork
from flow_anomaly_ros.detectors.feature_fusion.training import loss, synthesize_anomalies
from flow_anomaly_ros.layers.resample import resize
import pytest
import torch

SMALL = {
    'backbone': 'squeezenet1_1',
    'levels': ('features.4', 'features.7', 'features.12'),
    'stride': 4,
    'hidden': 8,
    'features': 4,
    'texture_levels': 4,
    'pair_levels': 2,
    'smoothing': 0.0,
}
# The rows of table 4, from the baseline on.
BASELINE = {
    'self_calibration': False,
    'texture': False,
    'score_loss': False,
    'consistency_loss': False,
}


def build(**options):
    torch.manual_seed(0)
    return FeatureFusionDetector(FeatureFusionConfig(**{**SMALL, **options}))


@pytest.fixture
def images():
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


def parts(detector):
    return {type(x) for x in detector.modules()}


def test_each_part_of_the_network_can_be_left_out():
    assert {SelfCalibration, TextureNetwork} <= parts(build())
    assert SelfCalibration not in parts(build(self_calibration=False))
    assert TextureNetwork not in parts(build(texture=False))


@pytest.mark.parametrize('left_out', ['score_loss', 'consistency_loss'])
def test_each_loss_can_be_left_out(images, left_out):
    options = {'consistency_loss': False, left_out: False}
    whole, less = build(consistency_loss=left_out == 'consistency_loss'), build(**options)
    less.load_state_dict(whole.state_dict())
    mask = torch.zeros(2, 40, 56, dtype=torch.bool)
    mask[:, :16, :16] = True
    assert loss(whole, images, mask) > loss(less, images, mask) + 1e-6


def test_without_a_score_loss_the_distance_from_the_centre_is_the_score(images):
    detector = build(**BASELINE).eval()
    with torch.no_grad():
        expected = resize(hypersphere_distance(detector.features(images))[:, None], (40, 56))
        output = detector(images)
    torch.testing.assert_close(output.score_map, expected[:, 0])
    torch.testing.assert_close(output.image_score, expected.amax((1, 2, 3)))


def test_the_gate_of_the_self_calibration_sees_further_than_its_convolutions():
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 24, 24)
    moved = maps.clone()
    moved[..., 0, 0] += 10

    def reach(rate):
        network = SelfCalibration(4, rate).eval()
        with torch.no_grad():
            changed = (network(moved) - network(maps)).abs().amax(1)[0] > 1e-6
        return torch.nonzero(changed).max().item()

    assert reach(1) < reach(4)


@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
def test_the_ratio_is_the_share_of_images_that_get_an_anomaly(ratio):
    images = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    spoiled, masks = synthesize_anomalies(images, ratio, torch.Generator().manual_seed(0))
    changed = (spoiled != images).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(ratio, abs=0.15)
    assert not masks[~changed].any()
    assert masks.any() == (ratio > 0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'levels': ('features.4',)}, 'levels is .*: it must be three levels, or none'),
        ({'anomaly_ratio': 1.5}, 'anomaly_ratio is 1.5: it must be at least 0 and at most 1'),
        (
            {'score_loss': False},
            'consistency_loss is True: it must be false if score_loss is false',
        ),
        ({'pair_levels': 1}, 'pair_levels is 1: it must be 2 or more'),
        ({'batch': 1}, 'batch is 1: it must be 2 or more'),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureFusionConfig(**{**SMALL, **options})


def test_a_network_without_three_levels_needs_them_named():
    pytest.importorskip('timm')
    with pytest.raises(ValueError, match='has 1 level by default, and 3 are needed: set'):
        build(backbone='timm/deit_tiny_patch16_224', levels=())
