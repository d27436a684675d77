# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The parameter files name exactly the parameters that the nodes have, with their defaults."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from flow_anomaly_ros.nodes import camera, detector, image_source, rejecter, trainer
from rclpy.parameter import Parameter

pytestmark = pytest.mark.ros

CONFIG = Path(__file__).parents[2] / 'config'


def flat(values, prefix=''):
    """Nested values as ROS names them: {'camera': {'roi': ''}} as {'camera.roi': ''}."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


@pytest.mark.parametrize(
    ('name', 'rows', 'others'),
    [
        (
            'detector',
            {
                **{row.name: row.default for row in detector.PARAMETERS},
                **{f'camera.{row.name}': row.default for row in camera.CAMERA_PARAMETERS},
            },
            {'autostart', 'camera.model'},
        ),
        ('image_source', {row.name: row.default for row in image_source.PARAMETERS}, {'path'}),
        ('rejecter', {row.name: row.default for row in rejecter.PARAMETERS}, set()),
        ('trainer', {row.name: row.default for row in trainer.PARAMETERS}, set()),
    ],
)
def test_a_parameter_file_holds_all_parameters_and_their_defaults(name, rows, others):
    """`others` are those whose value in the file is not the default, as its comments say."""
    (content,) = yaml.safe_load((CONFIG / f'{name}.yaml').read_text()).values()
    values = dict(flat(content['ros__parameters']))
    assert values.keys() == rows.keys()
    for parameter, value in values.items():
        assert type(value) is type(rows[parameter])
        if parameter not in others:
            assert value == rows[parameter], parameter


def test_parameters_that_a_node_does_not_have_are_named(spinner, capfd):
    given = {'cameras': ['front'], 'front.modle': 'm.safetensors', 'bogus': 1, 'camera.roi': ''}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    spinner.add(detector.DetectorNode(parameter_overrides=overrides))
    found = [line for line in capfd.readouterr().err.splitlines() if 'ignored' in line]
    assert len(found) == 1
    # The file of the launch files holds camera.*, whatever the cameras are called.
    assert found[0].endswith('no such parameters, ignored: front.modle (front.model?), bogus')
