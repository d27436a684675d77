# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters are declared from a dataclass, checked, and followed when they change."""

from dataclasses import dataclass, FrozenInstanceError

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from flow_anomaly_ros.nodes.arm import SERVICE_TYPES
from flow_anomaly_ros.nodes.detector import DetectorNode
from flow_anomaly_ros.nodes.parameters.declaration import parameter, parameters_of
from flow_anomaly_ros.nodes.parameters.listener import ParameterListener
from flow_anomaly_ros.nodes.parameters.rejecter import RejecterParameters
import rclpy
from rclpy.exceptions import InvalidParameterValueException
from rclpy.parameter import Parameter

pytestmark = pytest.mark.ros


@dataclass(frozen=True)
class PressParameters:
    """Parameters of a press."""

    force: float = parameter(2.0, 'Force in kN.', limits=(0.5, 10.0))
    strokes: int = parameter(1, 'Strokes.', limits=(1, 9))
    mode: str = parameter('slow', 'Speed.', choices=('slow', 'fast'))
    topic: str = parameter('', 'Topic of the force.', is_ros_name=True)
    tools: tuple[str, ...] = parameter(('punch',), 'Tools.', read_only=True)


@pytest.fixture
def make_press(spinner):
    """Make a node with overrides of parameters, and the listener of its press parameters."""

    def make(prefix='', **overrides):
        given = [Parameter(name.replace('__', '.'), value=v) for name, v in overrides.items()]
        node = spinner.add(rclpy.create_node('press', parameter_overrides=given))
        return node, ParameterListener(node, PressParameters, prefix)

    return make


def set_parameter(node, name, value):
    return node.set_parameters([Parameter(name, value=value)])[0]


def test_parameters_are_declared_as_the_dataclass_says(make_press):
    node, listener = make_press(tools=['punch', 'die'])
    assert listener.values == PressParameters(tools=('punch', 'die'))
    force, strokes, mode, _, tools = node.describe_parameters(list(vars(listener.values)))
    assert force.description == 'Force in kN.'
    (limits,) = force.floating_point_range
    assert (limits.from_value, limits.to_value) == (0.5, 10.0)
    (limits,) = strokes.integer_range
    assert (limits.from_value, limits.to_value) == (1, 9)
    assert mode.additional_constraints == 'one of slow, fast'
    assert tools.read_only
    assert not mode.read_only


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'mode': 'idle'}, "parameter mode is 'idle': it must be one of slow, fast"),
        ({'topic': 'a b'}, "parameter topic is 'a b': .*must not contain characters"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_at_start(make_press, overrides, message):
    with pytest.raises(ValueError, match=message) as error:
        make_press(**overrides)
    assert '\n' not in str(error.value)


def test_a_number_out_of_range_is_refused_at_start(make_press):
    with pytest.raises(InvalidParameterValueException, match='strokes'):
        make_press(strokes=10)


def test_values_follow_the_parameters_and_a_snapshot_stays_as_it_is(make_press):
    node, listener = make_press()
    before = listener.values
    assert set_parameter(node, 'force', 3.0).successful
    assert (before.force, listener.values.force) == (2.0, 3.0)
    with pytest.raises(FrozenInstanceError):
        before.force = 4.0


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('mode', 'idle', "parameter mode is 'idle': it must be one of slow, fast"),
        ('topic', 'a b', 'must not contain characters'),
        ('force', 11.0, 'range'),
        ('force', 'much', 'type'),
        ('tools', ['die'], 'read-only'),
    ],
)
def test_a_change_that_is_not_allowed_is_refused_with_the_reason(make_press, name, value, reason):
    node, listener = make_press()
    result = set_parameter(node, name, value)
    assert not result.successful
    assert reason in result.reason
    assert '\n' not in result.reason
    assert listener.values == PressParameters()


def test_a_change_is_validated_with_the_proposed_values_and_applied_when_it_is_made(make_press):
    node, listener = make_press()
    applied = []

    def validate(values, names):
        if values.mode == 'fast' and values.strokes > 1:
            msg = f'too fast for {values.strokes} strokes'
            raise ValueError(msg)

    listener.on_change(
        lambda values, names: applied.append((values, names, listener.values)), validate
    )
    assert set_parameter(node, 'strokes', 2).successful
    expected = PressParameters(strokes=2)
    assert applied == [(expected, {'strokes'}, expected)]
    refused = set_parameter(node, 'mode', 'fast')
    assert refused.reason == 'too fast for 2 strokes'
    assert listener.values == expected
    # Both at once are allowed.
    changes = [Parameter('strokes', value=1), Parameter('mode', value='fast')]
    assert node.set_parameters_atomically(changes).successful
    assert applied[1:] == [(PressParameters(mode='fast'), {'strokes', 'mode'}, listener.values)]


def test_a_change_of_other_parameters_is_not_reported(make_press):
    node, listener = make_press()
    applied = []
    listener.on_change(lambda *change: applied.append(change), lambda *_: None)
    node.declare_parameter('speed', 1.0)
    assert set_parameter(node, 'speed', 2.0).successful
    assert not applied


def test_several_listeners_of_one_node_have_parameters_of_their_own(make_press):
    node, left = make_press('left.', left__force=3.0)
    right = ParameterListener(node, PressParameters, 'right.')
    assert (left.values.force, right.values.force) == (3.0, 2.0)
    assert set_parameter(node, 'right.strokes', 5).successful
    assert (left.values.strokes, right.values.strokes) == (1, 5)
    assert 'parameter right.mode is' in set_parameter(node, 'right.mode', 'idle').reason


def test_parameters_that_a_node_has_already_are_not_declared_again(make_press):
    node, first = make_press()
    assert set_parameter(node, 'force', 3.0).successful
    second = ParameterListener(node, PressParameters)
    assert first.values == second.values == PressParameters(force=3.0)


def test_unknown_parameters_are_named_with_the_nearest_known_one(spinner, capfd):
    given = {'cameras': ['front'], 'front.modle': 'm.safetensors', 'bogus': 1, 'camera.roi': ''}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    spinner.add(DetectorNode(parameter_overrides=overrides))
    found = [line for line in capfd.readouterr().err.splitlines() if 'ignoring' in line]
    assert len(found) == 1
    # The file of the launch files holds camera.*, whatever the cameras are called.
    message = 'ignoring unknown parameters: front.modle (did you mean front.model?), bogus'
    assert found[0].endswith(message)


def test_the_arm_service_types_of_the_parameter_and_the_client_agree():
    declared = {info.name: info for info in parameters_of(RejecterParameters)}
    assert declared['arm_service_type'].choices == tuple(SERVICE_TYPES)
