# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Distances are normalised by those between good parts."""

from flow_anomaly_ros.detectors.restoration.distance_normalizer import DistanceNormalizer
import pytest
import torch

SIZE = (12, 16)


def good_distances(count=6, seed=0):
    """Make distances of 1 on the left and 3 on the right, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.ones(SIZE)
    base[:, 8:] = 3
    return base + 0.1 * torch.rand(count, 1, *SIZE, generator=generator)


@pytest.fixture
def normalizer():
    normalizer = DistanceNormalizer()
    normalizer.fit(good_distances(), SIZE)
    return normalizer


def test_before_fit_distances_stay_as_they_are():
    distances = good_distances()
    torch.testing.assert_close(DistanceNormalizer()(distances), distances)


def test_positions_where_good_parts_vary_count_less(normalizer):
    distances = torch.full((1, 1, *SIZE), 2.0)
    distances[..., 6, 2] = distances[..., 6, 13] = 9.0
    normalized = normalizer(distances)[0, 0]
    assert normalized[6, 2] > 1.2 * normalized[6, 13] > 0


def test_a_small_difference_everywhere_is_removed():
    normalizer = DistanceNormalizer()
    normalizer.fit(good_distances() + 0.1 * torch.arange(6.0)[:, None, None, None], SIZE)
    dark, light = good_distances(1, seed=1), good_distances(1, seed=1) + 0.3
    assert (normalizer(light) - normalizer(dark)).abs().mean() < 0.3 * 0.3


def test_a_large_difference_everywhere_remains(normalizer):
    assert normalizer(good_distances(1) + 5).min() > 3


def test_normalised_distances_are_never_negative(normalizer):
    assert normalizer(0.1 * good_distances(2)).min() == 0


def test_distances_of_any_size_are_normalised(normalizer):
    assert tuple(normalizer(torch.rand(2, 1, 48, 64)).shape) == (2, 1, 48, 64)


def test_identical_good_parts_give_finite_distances():
    normalizer = DistanceNormalizer()
    normalizer.fit(torch.zeros(2, 1, *SIZE), SIZE)
    assert normalizer(torch.rand(1, 1, *SIZE)).isfinite().all()


def test_a_new_normalizer_loads_the_state_of_a_fitted_one(normalizer):
    loaded = DistanceNormalizer()
    loaded.load_state_dict(normalizer.state_dict())
    distances = good_distances(1, seed=2)
    assert torch.equal(loaded(distances), normalizer(distances))
