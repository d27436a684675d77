# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Rotated and shifted parts are registered; parts in the same pose are not changed."""

from flow_anomaly_ros.detectors.restoration.registration import Registration
import pytest
import torch

SIZES = [(96, 96), (80, 112), (112, 80)]


def parts(angles, shifts, size):
    """Draw wedges with a spot, rotated by radians and shifted by halves of the shorter side.

    The edges are soft, so that no result depends on how an image is resampled.
    """
    rows, columns = ((torch.arange(n) * 2 + 1 - n) / min(size) for n in size)
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    images = []
    for angle, (right, down) in zip(angles, shifts, strict=True):
        cos, sin = angle.cos(), angle.sin()
        along = cos * (x - right) + sin * (y - down)
        across = cos * (y - down) - sin * (x - right)
        edge = torch.minimum(0.14 + 0.12 * along - across.abs(), 0.55 - along.abs())
        spot = 0.06 - ((along + 0.35).square() + across.square()).sqrt()
        images.append(0.2 + 0.6 * (edge * 40).sigmoid() - 0.5 * (spot * 40).sigmoid())
    return torch.stack(images)[:, None].expand(-1, 3, -1, -1)


def random_poses(count, seed, max_shift=0.2):
    generator = torch.Generator().manual_seed(seed)
    angles = 2 * torch.pi * torch.rand(count, generator=generator)
    return angles, max_shift * (2 * torch.rand(count, 2, generator=generator) - 1)


@pytest.fixture(scope='module', params=SIZES, ids=str)
def fitted(request):
    registration = Registration()
    registration.fit(parts(*random_poses(8, 0), request.param))
    return registration, request.param


def test_rotated_and_shifted_parts_are_registered(fitted):
    registration, size = fitted
    assert registration.is_active
    images = parts(*random_poses(6, 1), size)
    registered, poses = registration(images)
    assert registered.shape == images.shape
    assert tuple(poses.shape) == (6, 3)
    assert registered.std(0).mean() < 0.2 * images.std(0).mean()


def test_the_angle_between_two_parts_is_found(fitted):
    registration, size = fitted
    angles, shifts = torch.tensor([0.3, 2.0]), torch.tensor([[0.1, -0.05], [-0.1, 0.1]])
    poses, correlation = registration.find(parts(angles, shifts, size))
    assert correlation.min() > 0.97
    rotation = (poses[1, 0] - poses[0, 0]) % (2 * torch.pi)
    assert rotation.item() == pytest.approx(1.7, abs=0.02)


def test_parts_are_registered_to_the_centre_of_the_image(fitted):
    registration, size = fitted
    registered, _ = registration(parts(*random_poses(6, 1), size))
    brightness = (registered.mean((0, 1)) - 0.2).clamp(min=0.1) - 0.1
    for axis, length in enumerate(size):
        profile = brightness.sum(1 - axis)
        centre = (profile * torch.arange(length)).sum() / profile.sum()
        assert abs(centre.item() - (length - 1) / 2) < 0.1 * min(size)


def test_undo_transforms_maps_back_to_the_camera_image(fitted):
    registration, size = fitted
    images = parts(*random_poses(6, 1, max_shift=0.05), size)
    registered, poses = registration(images)
    restored = registration.undo(registered, poses)
    is_inside = registration.undo(torch.ones_like(registered), poses) > 0.999
    assert is_inside.float().mean() > 0.7
    assert (restored - images)[is_inside].abs().mean() < 0.01
    # What the registered image does not show was not inspected.
    assert restored[registration.undo(torch.ones_like(registered), poses) == 0].max() == 0
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(registration.undo(registered, poses), restored)


def test_maps_are_zero_outside_the_camera_image(fitted):
    registration, (height, width) = fitted
    ones = torch.ones(2, 1, height, width)
    # A shift to the right by a quarter of the shorter side, and a quarter turn.
    poses = torch.tensor([[0.0, 0.5, 0.0], [torch.pi / 2, 0.0, 0.0]])
    shifted, rotated = registration.weigh_border(ones, poses, 1, 1.0)[:, 0]
    outside = min(height, width) // 4
    assert shifted[:, : width - outside].all()
    assert not shifted[:, width - outside :].any()
    middle = abs(width - height) // 2
    assert rotated.sum() == min(height, width) ** 2
    assert rotated[middle : -middle or None].all() or rotated[:, middle:-middle].all()


def test_scores_near_a_border_are_weighed_once(fitted):
    registration, (height, width) = fitted
    ones = torch.ones(1, 1, height, width)
    expected = torch.full((height, width), 0.5)
    expected[3:-3, 3:-3] = 1
    assert torch.equal(registration.weigh_border(ones, None, 3, 0.5)[0, 0], expected)
    # Shifted to the right by a quarter of the shorter side, the camera image ends inside.
    poses = torch.tensor([[0.0, 0.5, 0.0]])
    end = width - min(height, width) // 4
    expected[:, end - 3 :] = 0.5
    expected[:, end:] = 0
    assert torch.equal(registration.weigh_border(ones, poses, 3, 0.5)[0, 0], expected)


def test_fit_uses_images_from_the_whole_set():
    # Forty parts in one pose, then others: files are in the order in which they were taken.
    angles, shifts = random_poses(40, 0)
    aligned = torch.zeros(40), torch.zeros(40, 2)
    images = torch.cat([parts(*aligned, (64, 64)), parts(angles, shifts, (64, 64))])
    registration = Registration()
    registration.fit(images)
    assert registration.is_active


def test_parts_in_the_same_pose_are_not_registered():
    angles = 0.5 + 0.02 * torch.randn(8, generator=torch.Generator().manual_seed(0))
    images = parts(angles, torch.zeros(8, 2), (96, 96))
    registration = Registration()
    registration.fit(images)
    registered, poses = registration(images)
    assert poses is None
    assert registered is images
    assert registration.undo(images, None) is images


def test_textures_and_empty_images_have_no_pose():
    registration = Registration()
    registration.fit(torch.rand(8, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert not registration.is_active
    registration.fit(torch.full((4, 1, 64, 64), 0.5))
    assert not registration.is_active


@pytest.mark.parametrize('noise', [0.0, 0.02])
def test_images_without_a_part_are_not_moved(fitted, noise):
    registration, size = fitted
    images = 0.5 + noise * torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0))
    registered, poses = registration(images)
    assert not poses.any()
    torch.testing.assert_close(registered, images, rtol=0, atol=1e-4)


def test_a_new_registration_loads_the_state_of_a_fitted_one(fitted):
    registration, size = fitted
    loaded = Registration()
    loaded.load_state_dict(registration.state_dict())
    images = parts(*random_poses(2, 3), size)
    assert torch.equal(loaded(images)[0], registration(images)[0])
