# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Of all points bank for a position and those around it, the nearest is found."""

from flow_anomaly_ros.detectors.restoration.memory_bank import k_center_greedy, MemoryBank
import pytest
import torch


def random_maps(count, seed, size=(5, 6)):
    generator = torch.Generator().manual_seed(seed)
    # Exact in the half precision that points are bank in.
    return (8 * torch.randn(count, 4, *size, generator=generator)).round() / 8


def nearest_by_hand(points, feature, row, column, window):
    height, width = points.shape[-2:]
    candidates = torch.cat(
        [
            points[:, :, y, x]
            for y in range(max(0, row - window), min(height, row + window + 1))
            for x in range(max(0, column - window), min(width, column + window + 1))
        ]
    )
    return candidates[(candidates - feature).square().sum(1).argmin()]


@pytest.mark.parametrize('window', [0, 1, 2])
def test_the_nearest_of_all_points_in_the_window_is_found(window):
    points, features = random_maps(3, 0), random_maps(2, 1)
    bank = MemoryBank(4, window)
    bank.fit(points)
    nearest = bank(features)
    for image, feature in enumerate(features):
        for row in range(5):
            for column in range(6):
                wanted = nearest_by_hand(points, feature[:, row, column], row, column, window)
                found = nearest[image, :, row, column]
                here = feature[:, row, column]
                # Two points may be equally near.
                assert (found - here).norm() == pytest.approx((wanted - here).norm(), abs=1e-5)


def test_stored_points_are_found_themselves():
    points = random_maps(3, 0)
    bank = MemoryBank(4)
    bank.fit(points)
    torch.testing.assert_close(bank(points), points)


def test_a_fresh_one_takes_the_state_of_a_fitted_one():
    bank, fresh = MemoryBank(4), MemoryBank(4)
    bank.fit(random_maps(3, 0))
    fresh.load_state_dict(bank.state_dict())
    features = random_maps(2, 1)
    assert torch.equal(fresh(features), bank(features))


def test_the_state_of_other_features_is_refused():
    with pytest.raises(RuntimeError, match='bank'):
        MemoryBank(6).load_state_dict(MemoryBank(4).state_dict())


def test_the_search_may_be_limited_to_the_first_channels():
    points, features = random_maps(3, 0), random_maps(2, 1)
    # What is near in the others must not matter.
    points[:, 2:] *= 100
    limited, first_two = MemoryBank(4, searched=2), MemoryBank(2)
    limited.fit(points)
    first_two.fit(points[:, :2])
    found = limited(features)
    assert torch.equal(found[:, :2], first_two(features[:, :2]))
    # All channels of a point that is found.
    assert found[:, 2:].abs().max() > 10


def test_a_coreset_keeps_every_point_near_one_that_is_kept():
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(70, 5, 3, generator=generator)
    noise = 0.01 * torch.randn(70, 40, 3, generator=generator)
    which = torch.arange(40) % 5
    points = centres[:, which] + noise
    kept = k_center_greedy(points, 5)
    assert kept.shape == (70, 5, 3)
    assert torch.cdist(points, kept).amin(2).max() < 0.1
    # They are points of their own position.
    is_own = (kept[:, :, None] == points[:, None]).all(3).any(2)
    assert is_own.all()


def test_no_more_points_are_stored_than_wanted():
    bank = MemoryBank(4)
    bank.fit(random_maps(7, 0), coreset_size=3)
    assert bank.bank.shape == (5, 6, 4, 3)
    bank.fit(random_maps(2, 0), coreset_size=3)
    assert bank.bank.shape == (5, 6, 4, 2)
