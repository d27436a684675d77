# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""NF-BMR: figure 4's networks, both domains, and which stage trains what."""

from flow_anomaly_ros.detectors.nf_bmr import METHOD
from flow_anomaly_ros.detectors.nf_bmr.config import NfBmrConfig
from flow_anomaly_ros.detectors.nf_bmr.mapping import (
    plain_mapping,
    residual_mapping,
    ResidualBlock,
)
from flow_anomaly_ros.detectors.nf_bmr.model import NfBmrDetector
from flow_anomaly_ros.detectors.nf_bmr.training import fit
from flow_anomaly_ros.layers.resample import resize_and_smooth
import pytest
import torch
from torch import nn

SMALL = {
    'backbone': 'squeezenet1_1',
    'levels': ('features.4',),
    'stride': 4,
    'components': 8,
    'flow_hidden': 8,
    'hidden': 8,
    'augmented_samples': 4,
    'batch': 2,
    'flow_steps': 3,
    'mapping_steps': 3,
}


def build(**options):
    torch.manual_seed(0)
    return NfBmrDetector(NfBmrConfig(**{**SMALL, **options}))


@pytest.fixture
def images():
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


def test_a_residual_block_adds_three_convolutions_to_its_input():
    block = ResidualBlock(4)
    kinds = [type(layer) for layer in block.layers]
    assert kinds == [nn.Conv2d, nn.ReLU] * 3
    assert [layer.kernel_size[0] for layer in block.layers[::2]] == [1, 3, 1]
    maps = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(block(maps) - maps, block.layers(maps))


@pytest.mark.parametrize('blocks', [1, 2, 3])
def test_both_networks_share_the_block_in_their_middle(blocks):
    torch.manual_seed(0)
    mapping = residual_mapping(channels=6, hidden=4, blocks=blocks)
    for side, convolution in ((mapping.first, 0), (mapping.last, -1)):
        assert [len(network) for network in side] == [blocks + 1] * 2
        assert all(isinstance(network[convolution], nn.Conv2d) for network in side)
        assert sum(isinstance(x, ResidualBlock) for network in side for x in network) == 2 * blocks
    source, target = torch.randn(2, 2, 6, 5, 7)
    before = mapping(source, target)
    # What one network does with the shared block, the other does too, and with no other.
    for part, changed in ((mapping.shared, [True, True]), (mapping.first[0], [True, False])):
        with torch.no_grad():
            next(part.parameters()).add_(0.5)
        after = mapping(source, target)
        assert [not torch.equal(x, y) for x, y in zip(before, after, strict=True)] == changed
        before = after


def test_the_plain_mapping_has_five_layers_each_way():
    mapping = plain_mapping(channels=6, hidden=4)
    kernels = [x.kernel_size for x in mapping.modules() if isinstance(x, nn.Conv2d)]
    assert kernels == [(1, 1)] * 10
    to_target, to_source = mapping(torch.randn(2, 6, 5, 7), torch.randn(2, 6, 5, 7))
    assert to_target.shape == to_source.shape == (2, 6, 5, 7)


@pytest.mark.parametrize('mapping', ['residual', 'plain'])
def test_the_score_is_the_sum_of_normalised_errors_in_both_domains(images, mapping):
    detector = build(mapping=mapping, smoothing=0.0, augmented_samples=2, max_shift=0)
    fit(detector, images)
    with torch.no_grad():
        source = detector.source(images)
        target, _ = detector.target(source)
        mapped_target, mapped_source = detector.mapping(source, target)
        errors = [
            (source - mapped_source).square().mean(1),
            (target - mapped_target).square().mean(1),
        ]
        output = detector(images)
    # It was trained on these very images.
    torch.testing.assert_close(detector.mean_error, torch.stack([x.mean() for x in errors]))
    expected = sum(x / x.mean() for x in errors)
    drawn = resize_and_smooth(expected[:, None], (40, 56), sigma=0, offset=detector.backbone.offset)
    torch.testing.assert_close(output.score_map, drawn[:, 0])
    torch.testing.assert_close(output.image_score, output.score_map.amax((1, 2)))


def test_the_source_domain_has_unit_variance(images):
    detector = build(augmented_samples=2, max_shift=0)
    fit(detector, images)
    with torch.no_grad():
        source = detector.source(images)
    variances = source.permute(1, 0, 2, 3).flatten(1).var(1)
    assert variances.mean().item() == pytest.approx(1, abs=0.05)
    assert variances[0] > 2 * variances[-1]


def test_without_a_mapping_unlikely_features_are_abnormal(images):
    detector = build(mapping='none', augmented_samples=2, max_shift=0)
    fit(detector, images)
    assert detector.mapping is None
    with torch.no_grad():
        target, log_determinants = detector.target(detector.source(images))
        (unlikely,) = detector.distances(images).values()
    assert log_determinants.abs().max() > 0
    expected = 0.5 * target.square().mean(1) - log_determinants / 8
    floor = expected.quantile(0.01)
    torch.testing.assert_close(unlikely[:, 0], (expected - floor).clamp(min=0))


@pytest.mark.parametrize('mapping', ['residual', 'none'])
def test_pictures_are_brightest_where_most_is_abnormal(images, mapping):
    (row,) = build(mapping=mapping).eval().explain(images)
    names = ['source domain', 'target domain'] if mapping == 'residual' else ['likelihood']
    assert list(row) == names
    for picture in row.values():
        assert picture.min() >= 0
        assert picture.amax((1, 2, 3)).tolist() == [1, 1]


@pytest.mark.parametrize(
    ('options', 'levels', 'stride', 'channels'),
    [
        ({}, ('features.6',), 32, 304),
        ({'stride': 16}, ('features.6',), 16, 304),
        ({'backbone': 'mobilenet_v2'}, ('features.6', 'features.13'), 16, 128),
        ({'backbone': 'mobilenet_v2', 'levels': ('features.3',)}, ('features.3',), 16, 24),
    ],
)
def test_the_source_domain_has_the_default_levels_of_the_backbone(
    options, levels, stride, channels
):
    detector = NfBmrDetector(NfBmrConfig(**options))
    assert detector.backbone.levels == levels
    assert detector.backbone.stride == stride
    assert detector.whitening.deviation.shape == (channels,)
    # Hidden channels as many as that, where none are given.
    assert detector.mapping.shared.layers[0].weight.shape[:2] == (channels, channels)
    assert detector.flow.blocks[0].first.networks[0][0].weight.shape[0] == channels


def test_the_preset_of_the_paper_has_its_hidden_channels():
    preset = METHOD.presets['paper']
    detector = build(**{**preset, 'residual_blocks': 1})
    assert detector.mapping.shared.layers[0].weight.shape[:2] == (1024, 1024)
    assert detector.flow.blocks[0].first.networks[0][0].weight.shape[0] == 1024


def test_the_mapping_is_trained_after_the_flow_which_then_stays_as_it_is(images):
    detector = build()
    states = {}

    def remember(stage, step, steps, _loss):
        if step == steps:
            states[stage] = {k: v.clone() for k, v in detector.state_dict().items()}

    report = fit(detector, images, progress=remember)
    assert list(report.losses) == ['flow', 'mapping']
    for name, value in detector.state_dict().items():
        changed = not torch.equal(value, states['flow'][name])
        # And the mean error, at the end.
        assert changed == name.startswith(('mapping.', 'mean_error')), name


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'mapping': 'both'}, "mapping is 'both': it must be one of residual, plain, none"),
        ({'residual_blocks': 0}, 'residual_blocks is 0: it must be 1 or more'),
        ({'hidden': -1}, 'hidden is -1: it must be 0 or more'),
        ({'components': 3}, 'components is 3: it must be even and 0 or more'),
        ({'stride': 3}, 'stride is 3: it must be one of 0, 2, 4, 8, 16, 32'),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NfBmrConfig(**options)
