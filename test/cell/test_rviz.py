# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rviz configuration shows the topics of every camera of a cell."""

from pathlib import Path

from flow_anomaly_ros.cell.rviz import cell_config
from flow_anomaly_ros.cell.topics import image_topic
import yaml

TEMPLATE = Path(__file__).parents[2] / 'config' / 'inspection.rviz'


def topics(text):
    """Topics by display group, as (name, reliability)."""
    displays = yaml.safe_load(text)['Visualization Manager']['Displays']
    return {
        group['Name']: [
            (display['Topic']['Value'], display['Topic']['Reliability Policy'])
            for display in group['Displays']
        ]
        for group in displays
    }


def test_the_template_shows_image_overlay_mask_and_score_map_of_a_camera():
    assert topics(TEMPLATE.read_text()) == {
        'camera': [
            ('/camera/image', 'Reliable'),
            ('/camera/overlay', 'Reliable'),
            ('/camera/mask', 'Reliable'),
            ('/camera/score_map', 'Reliable'),
        ]
    }


def test_every_camera_is_shown_in_the_namespace_of_its_cell():
    text = cell_config(TEMPLATE, {'front': 'front/image', 'side': '/usb_cam/image_raw'}, '/cell_a')
    shown = topics(text)
    assert list(shown) == ['front', 'side']
    assert [topic for topic, _ in shown['front']] == [
        '/cell_a/front/image',
        '/cell_a/front/overlay',
        '/cell_a/front/mask',
        '/cell_a/front/score_map',
    ]
    assert shown['side'][0] == ('/usb_cam/image_raw', 'Reliable')
    assert shown['side'][1] == ('/cell_a/side/overlay', 'Reliable')


def test_compressed_images_are_shown_from_their_compressed_topic():
    images = {
        'front': image_topic('front', compressed=True),
        'side': image_topic('side', compressed=True, base='/usb_cam/image_raw'),
    }
    shown = topics(cell_config(TEMPLATE, images, 'cell_a'))
    assert shown['front'][0][0] == '/cell_a/front/image/compressed'
    assert shown['front'][1][0] == '/cell_a/front/overlay'
    assert shown['side'][0][0] == '/usb_cam/image_raw/compressed'


def test_a_relative_image_topic_without_a_namespace_is_resolved_in_the_root():
    shown = topics(cell_config(TEMPLATE, {'front': 'usb/image'}))
    assert shown['front'][0][0] == '/usb/image'
    assert shown['front'][1][0] == '/front/overlay'
