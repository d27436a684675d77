# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""CAINNFlow: forms of its coupling networks, exactness of its flows, its loss, its pictures."""

import math

from flow_anomaly_ros.detectors.cainnflow.attention import BlockAttention
from flow_anomaly_ros.detectors.cainnflow.config import CainnFlowConfig, FORMS
from flow_anomaly_ros.detectors.cainnflow.model import CainnFlowDetector, CouplingNetwork
from flow_anomaly_ros.detectors.cainnflow.training import fit
from flow_anomaly_ros.detectors.training_loop import negative_log_likelihood
from flow_anomaly_ros.layers.resample import resize
import pytest
import torch
from torch import nn

LETTERS = {nn.Conv2d: 'C', BlockAttention: 'A', nn.ReLU: ''}


def build(**options):
    torch.manual_seed(0)
    levels = ('features.4', 'features.7')
    return CainnFlowDetector(CainnFlowConfig(backbone='squeezenet1_1', levels=levels, **options))


def randomise(flows, deviation):
    """Leave the start, where the last convolutions are zero and nothing is transformed."""
    for module in flows.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=deviation)
    return flows


@pytest.fixture
def images():
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('form', FORMS)
def test_coupling_networks_are_built_as_their_name_says(form):
    network = CouplingNetwork(form, inputs=4, outputs=8, hidden=6, reduction=2)
    assert ''.join(LETTERS[type(part)] for part in network.network) == form
    kernels = [x.kernel_size for x in network.network if isinstance(x, nn.Conv2d)]
    assert set(kernels) == {(3, 3)}
    (output,) = network([torch.randn(2, 4, 5, 7)])
    assert tuple(output.shape) == (2, 8, 5, 7)


@pytest.mark.parametrize('form', FORMS)
def test_every_level_is_restored_from_its_latents(images, form):
    detector = build(form=form, blocks=3)
    randomise(detector.flows, 0.02)
    with torch.no_grad():
        features = detector.extract(images)
        latents, _ = detector.flow(features)
        restored = detector.reverse(latents)
    assert [x.shape[1] for x in features] == [128, 256]
    for before, latent, after in zip(features, latents, restored, strict=True):
        assert (latent - before).abs().mean() > 0.1
        torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize('form', FORMS)
def test_the_log_determinant_is_that_of_the_jacobian(form):
    detector = build(form=form, blocks=2)
    flow = detector.flows[0]
    small = type(flow)(4, 2, detector._make_network)
    randomise(small, 0.2).double()
    point = torch.randn(1, 4, 2, 3, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda x: small([x])[0][0], point)
    expected = torch.linalg.slogdet(jacobian.reshape(24, 24)).logabsdet
    assert abs(expected) > 0.01
    torch.testing.assert_close(small([point])[1][0].sum(), expected)


def test_the_loss_is_the_mean_negative_log_likelihood():
    latents = [torch.full((2, 4, 1, 3), 2.0), torch.zeros(2, 2, 1, 1)]
    log_determinants = [torch.full((2, 1, 3), 1.0), torch.full((2, 1, 1), -3.0)]
    # Per channel: (4 * 2^2 / 2 - 1) / 4 and (0 + 3) / 2.
    loss = negative_log_likelihood(latents, log_determinants)
    assert loss.item() == pytest.approx((7 / 4 + 3 / 2) / 2)


def test_the_score_of_a_position_is_how_unlikely_its_features_are(images):
    detector = build(smoothing=0.0).eval()
    randomise(detector.flows, 0.02)
    for layer, floor in zip(detector.floors, (0.1, -3.0), strict=True):
        layer.floor.fill_(floor)
    with torch.no_grad():
        latents, log_determinants = detector.flow(detector.extract(images))
        output = detector(images)
    expected = torch.zeros(2, 40, 56)
    for z, d, floor in zip(latents, log_determinants, (0.1, -3.0), strict=True):
        unlikely = (0.5 * z.square().sum(1) - d) / z.shape[1]
        expected += 0.5 * resize((unlikely[:, None] - floor).clamp(min=0), (40, 56))[:, 0]
    torch.testing.assert_close(output.score_map, expected)
    torch.testing.assert_close(output.image_score, output.score_map.amax((1, 2)))


def test_scores_of_good_parts_begin_at_zero(images):
    detector = build(augmented_samples=2, steps=2, batch=2, max_shift=0)
    fit(detector, images)
    with torch.no_grad():
        levels = detector.negative_log_likelihoods(detector.extract(images))
    for unlikely, floor in zip(levels, detector.floors, strict=True):
        assert (unlikely < floor.floor).float().mean() == pytest.approx(0.01, abs=0.02)


def test_pictures_show_both_directions_of_every_level(images):
    detector = build().eval()
    with torch.no_grad():
        rows = detector.explain(images)
    assert [next(iter(row)) for row in rows] == ['features.4', 'features.7']
    for row, size in zip(rows, ((9, 13), (4, 6)), strict=True):
        assert {tuple(picture.shape) for picture in row.values()} == {(2, 3, *size)}
        assert all(x.min() >= 0 and x.max() <= 1 for x in row.values())
        # The reverse gives back what was there, and something else for a latent with noise.
        own = next(iter(row.values()))
        torch.testing.assert_close(row['restored'], own, atol=1e-3, rtol=0)
        assert (row['restored from noisy latents'] - own).abs().mean() > 0.01


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'form': 'ACA'}, "form is 'ACA': it must be one of CA, AC, CAC, CC"),
        ({'blocks': 0}, 'blocks is 0: it must be 1 or more'),
        ({'hidden_ratio': math.nan}, 'hidden_ratio is nan: it must be greater than 0'),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CainnFlowConfig(**options)
