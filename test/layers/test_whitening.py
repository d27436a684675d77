# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Whitened features have unit variance, can be inverted and are always finite."""

from flow_anomaly_ros.layers.whitening import MIN_RELATIVE_DEVIATION, Whitening
import pytest
import torch

CHANNELS = 6


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(4, CHANNELS, 9, 7, generator=generator)
    mixing = torch.eye(CHANNELS) + 0.3 * torch.randn(CHANNELS, CHANNELS, generator=generator)
    return torch.einsum('dc,bchw->bdhw', mixing, samples) + torch.arange(6.0)[:, None, None]


def fitted(features, components):
    whitening = Whitening(features.shape[1], components)
    whitening.fit(features)
    return whitening


def samples_of(maps):
    return maps.transpose(0, 1).flatten(1)


@pytest.mark.parametrize('components', [CHANNELS, 4, 1])
def test_components_have_zero_mean_unit_variance_and_no_correlation(features, components):
    whitened = samples_of(fitted(features, components)(features))
    assert len(whitened) == components
    torch.testing.assert_close(whitened.mean(1), torch.zeros(components), atol=1e-4, rtol=0)
    covariance = whitened @ whitened.T / (whitened.shape[1] - 1)
    torch.testing.assert_close(covariance, torch.eye(components), atol=1e-3, rtol=0)


def test_inverse_is_exact_with_all_components(features):
    whitening = fitted(features, CHANNELS)
    unseen = 3 * torch.randn_like(features)
    torch.testing.assert_close(whitening.inverse(whitening(unseen)), unseen, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('components', [1, 3, 5])
def test_inverse_with_fewer_components_is_the_least_squares_one(features, components):
    whitening = fitted(features, components)
    mean = samples_of(features).mean(1, keepdim=True)
    u, s, v = torch.linalg.svd(samples_of(features) - mean, full_matrices=False)
    best = u[:, :components] * s[:components] @ v[:components] + mean
    restored = samples_of(whitening.inverse(whitening(features)))
    torch.testing.assert_close(restored, best, atol=1e-4, rtol=1e-4)


def test_noise_far_below_the_signal_is_not_whitened_to_unit_variance(features):
    noise = MIN_RELATIVE_DEVIATION / 100 * features.std()
    features[:, 0] = 1 + noise * torch.randn_like(features[:, 0])
    whitened = samples_of(fitted(features, CHANNELS)(features))
    assert whitened.std(1)[-1] < 0.1
    torch.testing.assert_close(whitened.std(1)[:-1], torch.ones(CHANNELS - 1), atol=1e-3, rtol=0)


@pytest.mark.parametrize('shape', [(2, CHANNELS, 5, 4), (1, CHANNELS, 1, 1)])
@pytest.mark.parametrize('value', [0.0, 0.3, 1.0])
def test_constant_features_stay_finite_and_can_be_inverted(shape, value):
    features = torch.full(shape, value)
    whitening = fitted(features, CHANNELS)
    for unseen in (features, features + torch.rand(shape)):
        whitened = whitening(unseen)
        assert whitened.isfinite().all()
        torch.testing.assert_close(whitening.inverse(whitened), unseen, atol=1e-4, rtol=0)


def test_whitening_is_not_affected_by_autocast(features):
    features = 100 + features
    whitening = fitted(features, CHANNELS)
    expected = whitening(features)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(whitening(features), expected)
        restored = whitening.inverse(expected)
    assert torch.equal(restored, whitening.inverse(expected))
