# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The memory bank finds the nearest candidate within the window of each position."""

from flow_anomaly_ros.detectors.restoration.memory_bank import k_center_greedy, MemoryBank
import pytest
import torch


def random_maps(count, seed, size=(5, 6)):
    generator = torch.Generator().manual_seed(seed)
    # Exact in half precision, the precision of the bank.
    return (8 * torch.randn(count, 4, *size, generator=generator)).round() / 8


def search_window(maps, feature, row, column, window):
    height, width = maps.shape[-2:]
    candidates = torch.cat(
        [
            maps[:, :, y, x]
            for y in range(max(0, row - window), min(height, row + window + 1))
            for x in range(max(0, column - window), min(width, column + window + 1))
        ]
    )
    return candidates[(candidates - feature).square().sum(1).argmin()]


@pytest.mark.parametrize('window', [0, 1, 2])
def test_the_nearest_candidate_in_the_window_is_found(window):
    good, features = random_maps(3, 0), random_maps(2, 1)
    bank = MemoryBank(4, window)
    bank.fit(good)
    nearest = bank(features)
    for image, feature in enumerate(features):
        for row in range(5):
            for column in range(6):
                query = feature[:, row, column]
                expected = search_window(good, query, row, column, window)
                found = nearest[image, :, row, column]
                # Distances are compared, since two candidates may be equally near.
                assert (found - query).norm() == pytest.approx((expected - query).norm(), abs=1e-5)


def test_the_nearest_candidate_to_a_stored_feature_is_itself():
    good = random_maps(3, 0)
    bank = MemoryBank(4)
    bank.fit(good)
    torch.testing.assert_close(bank(good), good)


def test_a_new_bank_loads_the_state_of_a_fitted_one():
    fitted, loaded = MemoryBank(4), MemoryBank(4)
    fitted.fit(random_maps(3, 0))
    loaded.load_state_dict(fitted.state_dict())
    features = random_maps(2, 1)
    assert torch.equal(loaded(features), fitted(features))


def test_a_state_with_other_channels_is_refused():
    with pytest.raises(RuntimeError, match='bank'):
        MemoryBank(6).load_state_dict(MemoryBank(4).state_dict())


def test_the_search_can_be_limited_to_leading_channels():
    good, features = random_maps(3, 0), random_maps(2, 1)
    # Differences in the other channels must not matter.
    good[:, 2:] *= 100
    limited, first_two = MemoryBank(4, searched=2), MemoryBank(2)
    limited.fit(good)
    first_two.fit(good[:, :2])
    found = limited(features)
    assert torch.equal(found[:, :2], first_two(features[:, :2]))
    # All channels of the nearest candidate are returned.
    assert found[:, 2:].abs().max() > 10


def test_every_point_is_near_a_point_of_the_coreset():
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(70, 5, 3, generator=generator)
    noise = 0.01 * torch.randn(70, 40, 3, generator=generator)
    clusters = torch.arange(40) % 5
    points = centres[:, clusters] + noise
    coreset = k_center_greedy(points, 5)
    assert coreset.shape == (70, 5, 3)
    assert torch.cdist(points, coreset).amin(2).max() < 0.1
    # The coreset of a position consists of its own points.
    is_own = (coreset[:, :, None] == points[:, None]).all(3).any(2)
    assert is_own.all()


def test_the_number_of_candidates_is_limited():
    bank = MemoryBank(4)
    bank.fit(random_maps(7, 0), max_candidates=3)
    assert bank.bank.shape == (5, 6, 4, 3)
    bank.fit(random_maps(2, 0), max_candidates=3)
    assert bank.bank.shape == (5, 6, 4, 2)
