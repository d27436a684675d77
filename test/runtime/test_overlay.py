# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of inspections show the verdict, the regions and the scores, on any image."""

from types import SimpleNamespace

from flow_anomaly_ros.runtime.overlay import BANNERS, contact_strip, draw_overlay, heat_map
import numpy as np
import pytest

GREY = 100


def part(size=(480, 640), dtype=np.uint8, value=GREY):
    return np.full(size, value, dtype)


def box(x, y, width, height, score=1.5):
    return SimpleNamespace(x=x, y=y, width=width, height=height, max_score=score)


def spot(size, rows, columns):
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = 255
    return mask


def is_reddish(pixels):
    return (pixels[..., 0] > pixels[..., 1]) & (pixels[..., 0] > pixels[..., 2])


@pytest.mark.parametrize(
    'image',
    [
        part(),
        part((480, 640, 3)),
        part(dtype=np.uint16, value=GREY * 257),
        part((480, 640, 3), np.uint16, GREY * 257),
    ],
)
def test_an_overlay_is_drawn_on_every_kind_of_image(image):
    before = image.copy()
    mask = spot((480, 640), slice(200, 300), slice(100, 200))
    overlay = draw_overlay(image, mask, [box(100, 200, 100, 100)], 'defect', 1.5)
    assert overlay.shape == (480, 640, 3)
    assert overlay.dtype == np.uint8
    assert np.array_equal(image, before)
    assert is_reddish(overlay[210:290, 110:190]).all()
    assert (overlay[320:, 300:] == GREY).all()


@pytest.mark.parametrize('verdict', ['ok', 'uncertain', 'defect'])
def test_banner_has_the_colour_of_the_verdict(verdict):
    overlay = draw_overlay(part(), np.zeros((480, 640), np.uint8), [], verdict, 0.25)
    background, foreground = BANNERS[verdict]
    assert tuple(overlay[2, -2]) == background
    assert (overlay == foreground).all(axis=2).any()
    red, green, _ = (int(value) for value in background)
    assert {
        'ok': green > 2 * red,
        'uncertain': red > green > red / 2,
        'defect': red > 4 * green,
    }[verdict]


@pytest.mark.parametrize(('height', 'width'), [(480, 640), (2160, 3840)])
def test_letters_grow_with_the_image(height, width):
    overlay = draw_overlay(
        part((height, width)), np.zeros((height, width), np.uint8), [], 'defect', 1.0
    )
    white = (overlay.min(axis=2) > 200).any(axis=1)
    rows = np.flatnonzero(white)
    assert 1 / 50 < (rows[-1] - rows[0] + 1) / height < 1 / 15


def test_every_box_is_drawn_with_its_score():
    empty = np.zeros((480, 640), np.uint8)
    overlay = draw_overlay(part(), empty, [box(300, 200, 60, 40)], 'ok', 1.0)
    for row, column in ((200, 330), (239, 330), (220, 300), (220, 359)):
        assert is_reddish(overlay[row, column])
    assert (overlay[205:235, 305:355] == GREY).all()
    label = overlay[165:200, 300:360]
    assert (label == 255).all(axis=2).any()
    other = draw_overlay(part(), empty, [box(300, 200, 60, 40, score=8.8)], 'ok', 1.0)
    assert not np.array_equal(label, other[165:200, 300:360])


def test_scores_are_readable_at_the_borders():
    corners = [box(0, 0, 20, 20), box(620, 0, 20, 20), box(0, 460, 20, 20), box(620, 460, 20, 20)]
    overlay = draw_overlay(part(), np.zeros((480, 640), np.uint8), corners, 'ok', 1.0)
    for rows in (slice(30, 100), slice(380, 480)):
        for columns in (slice(0, 80), slice(560, 640)):
            assert (overlay[rows, columns] == 255).all(axis=2).any()


def test_boxes_may_have_floating_point_coordinates():
    empty = np.zeros((480, 640), np.uint8)
    whole = draw_overlay(part(), empty, [box(300, 200, 60, 40)], 'ok', 1.0)
    fraction = draw_overlay(part(), empty, [box(300.0, 200.0, 60.0, 40.0)], 'ok', 1.0)
    assert np.array_equal(whole, fraction)


@pytest.mark.parametrize('size', [(1, 1), (5, 400), (300, 20), (32, 32)])
def test_small_images_can_be_drawn_on(size):
    mask = np.full(size, 255, np.uint8)
    overlay = draw_overlay(part(size), mask, [box(0, 0, 1, 1)], 'defect', 123.4)
    assert overlay.shape == (*size, 3)
    assert contact_strip({'image': part(size), 'mask': mask, 'overlay': overlay}).ndim == 3


def test_invalid_arguments_are_refused():
    empty = np.zeros((480, 640), np.uint8)
    with pytest.raises(ValueError, match="unknown verdict 'fine'"):
        draw_overlay(part(), empty, [], 'fine', 1.0)
    with pytest.raises(ValueError, match='mask'):
        draw_overlay(part(), empty[1:], [], 'ok', 1.0)


def test_heat_map_has_one_scale_for_all_images():
    calm = heat_map(np.array([[0.0, 0.2]], np.float32), 0, 2)
    wild = heat_map(np.array([[0.2, 5.0, 2.0, np.nan, np.inf, -1.0, 0.0]], np.float32), 0, 2)
    assert calm.shape == (1, 2, 3)
    assert calm.dtype == np.uint8
    assert np.array_equal(calm[0, 1], wild[0, 0])
    for same in (2, 3, 4):
        assert np.array_equal(wild[0, 1], wild[0, same])
    assert np.array_equal(wild[0, 5], wild[0, 6])
    # RGB: low is blue, high is red.
    assert calm[0, 1, 2] > calm[0, 1, 0]
    assert wild[0, 1, 0] > wild[0, 1, 2]


def test_a_heat_map_can_be_drawn_for_a_threshold_of_zero():
    assert heat_map(np.zeros((2, 2), np.float32), 0, 0).shape == (2, 2, 3)


def test_strip_shows_all_four():
    size = (240, 320)
    image, mask = part(size), spot(size, slice(0, 120), slice(0, 320))
    heat = np.full((*size, 3), (10, 20, 30), np.uint8)
    overlay = np.full((*size, 3), (40, 50, 60), np.uint8)
    pictures = {'image': image, 'score map': heat, 'mask': mask, 'overlay': overlay}
    strip = contact_strip(pictures, height=480)
    rows, columns = strip.shape[:2]
    assert strip.dtype == np.uint8
    assert 480 < rows < 560
    assert 4 * 640 <= columns < 4 * 640 + 40
    quarter = columns // 4
    middles = [strip[rows - 40, quarter * index + quarter // 2] for index in range(4)]
    expected = [(GREY,) * 3, (10, 20, 30), (0, 0, 0), (40, 50, 60)]
    assert [tuple(int(channel) for channel in pixel) for pixel in middles] == expected
    for index in range(4):
        caption = strip[: rows - 480, quarter * index : quarter * index + 200]
        assert caption.min() < 80
