# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Distances are seen beside those that good parts have from one another."""

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
def usual():
    usual = DistanceNormalizer()
    usual.fit(good_distances(), SIZE)
    return usual


def test_distances_are_left_alone_before_the_fit():
    distances = good_distances()
    torch.testing.assert_close(DistanceNormalizer()(distances), distances)


def test_places_where_good_parts_differ_count_less(usual):
    distances = torch.full((1, 1, *SIZE), 2.0)
    distances[..., 6, 2] = distances[..., 6, 13] = 9.0
    seen = usual(distances)[0, 0]
    assert seen[6, 2] > 1.2 * seen[6, 13] > 0


def test_a_little_difference_everywhere_is_taken_off():
    usual = DistanceNormalizer()
    usual.fit(good_distances() + 0.1 * torch.arange(6.0)[:, None, None, None], SIZE)
    dark, light = good_distances(1, seed=1), good_distances(1, seed=1) + 0.3
    assert (usual(light) - usual(dark)).abs().mean() < 0.3 * 0.3


def test_a_large_difference_everywhere_stays(usual):
    assert usual(good_distances(1) + 5).min() > 3


def test_nothing_becomes_negative(usual):
    assert usual(0.1 * good_distances(2)).min() == 0


def test_what_is_usual_is_seen_at_any_size(usual):
    assert tuple(usual(torch.rand(2, 1, 48, 64)).shape) == (2, 1, 48, 64)


def test_parts_that_are_all_the_same_leave_finite_distances():
    usual = DistanceNormalizer()
    usual.fit(torch.zeros(2, 1, *SIZE), SIZE)
    assert usual(torch.rand(1, 1, *SIZE)).isfinite().all()


def test_what_is_usual_survives_a_state(usual):
    other = DistanceNormalizer()
    other.load_state_dict(usual.state_dict())
    distances = good_distances(1, seed=2)
    assert torch.equal(other(distances), usual(distances))
