# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rejecter node over DDS: decisions, the dead-man, the arm, faults."""

import dataclasses
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from flow_anomaly_ros.cell.rules import Rules
from flow_anomaly_ros.nodes import arm
from flow_anomaly_ros.nodes.parameters.rejecter import RejecterParameters
from flow_anomaly_ros.nodes.rejecter import RejecterNode
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Classification, ObjectHypothesis

pytestmark = pytest.mark.ros

CAMERAS = ('front', 'back')


class Line:
    """What stands around a rejecter: cameras that say something, a light barrier, an audience."""

    def __init__(self, node, rejecter, wait_for):
        self.node, self.rejecter, self.wait_for = node, rejecter, wait_for
        self.trigger = node.create_publisher(Header, 'trigger', 10)
        self.verdicts = {
            camera: node.create_publisher(Classification, f'{camera}/verdict', 10)
            for camera in CAMERAS
        }
        self.decisions, self.rejects, self.statuses, self.calls = [], [], [], []
        node.create_subscription(Classification, 'rejecter/decision', self.decisions.append, 10)
        node.create_subscription(
            Bool, 'rejecter/reject', lambda message: self.rejects.append(message.data), 10
        )
        node.create_subscription(
            DiagnosticArray, '/diagnostics', lambda m: self.statuses.extend(m.status), 10
        )
        wait_for(self.is_connected, what='discovery')

    def is_connected(self):
        inputs = list(self.verdicts.values())
        if self.rejecter.parameters.grouping == 'trigger':
            inputs.append(self.trigger)
        return (
            all(one.get_subscription_count() for one in inputs)
            and self.rejecter.count_subscribers('rejecter/reject')
            and self.rejecter.count_subscribers('rejecter/decision')
            and self.node.count_publishers('/diagnostics')
        )

    def announce(self, seconds, name=''):
        self.trigger.publish(Header(stamp=stamp(seconds), frame_id=name))

    def say(self, camera, verdict, seconds, score=0.5):
        results = [ObjectHypothesis(class_id=verdict, score=score)] if verdict else []
        header = Header(stamp=stamp(seconds), frame_id=f'{camera}_optical_frame')
        self.verdicts[camera].publish(Classification(header=header, results=results))

    def told(self, count):
        """Wait for so many decisions; returns them as words."""
        self.wait_for(lambda: len(self.decisions) >= count, what=f'{count} decisions')
        self.wait_for(lambda: len(self.rejects) >= count)
        return [message.results[0].class_id for message in self.decisions]

    def status(self, level, text=''):
        """Wait for a status of a level that says something."""

        def latest():
            last = self.statuses[-1] if self.statuses else None
            return last if last and last.level == level and text in last.message else None

        return self.wait_for(latest, what=f'status {level} {text!r}')

    @property
    def values(self):
        """What the latest status counts."""
        return {one.key: one.value for status in self.statuses[-1:] for one in status.values}

    def clear_fault(self):
        client = self.node.create_client(Trigger, 'rejecter/clear_fault')
        self.wait_for(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        return self.wait_for(lambda: future.done() and future.result(), what='an answer')

    def serve_arm(self, kind, answer):
        """Serve `arm`: `answer(request)` gives (success, message)."""

        def serve(request, response):
            self.calls.append(getattr(request, 'data', None))
            response.success, response.message = answer(request)
            return response

        self.node.create_service(kind, 'arm', serve)


def stamp(seconds):
    return Time(sec=int(seconds), nanosec=round(1e9 * (seconds % 1)))


@pytest.fixture
def make_line(spinner, wait_for):
    """Make a rejecter of two cameras, and what stands around it."""

    def make(**parameters):
        values = {
            'cameras': list(CAMERAS),
            'grouping': 'trigger',
            'one_image': True,
            'timeout': 5.0,
        } | parameters
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        rejecter = spinner.add(RejecterNode(parameter_overrides=overrides))
        return Line(spinner.add(rclpy.create_node('line')), rejecter, wait_for)

    return make


def test_each_trigger_gets_one_decision_with_its_header(make_line):
    line = make_line()
    for part, verdicts in enumerate((('ok', 'ok'), ('ok', 'defect'))):
        line.announce(10 + part, f'part {part}')
        for camera, verdict in zip(CAMERAS, verdicts, strict=True):
            line.say(camera, verdict, 10.1 + part, score=0.25 * (1 + part))
    assert line.told(2) == ['pass', 'reject']
    assert line.rejects == [False, True]
    assert [message.header.frame_id for message in line.decisions] == ['part 0', 'part 1']
    assert line.decisions[1].header.stamp == stamp(11)
    assert line.decisions[1].results[0].score == 0.5
    line.wait_for(lambda: line.values.get('pass') == '1')
    assert line.values['reject'] == '1'
    assert line.values.keys() >= {'parts', 'hold', 'missing verdicts back', 'arm failures'}
    assert line.status(DiagnosticStatus.OK).name == 'rejecter: parts'


def test_parts_that_follow_within_a_second_are_told_apart(make_line):
    line = make_line()
    for seconds, verdict in ((10.0, 'ok'), (10.7, 'defect')):
        line.announce(seconds)
        for camera in CAMERAS:
            line.say(camera, verdict, seconds + 0.1)
    assert line.told(2) == ['pass', 'reject']


def test_a_trigger_without_a_stamp_is_taken_to_be_of_now(make_line):
    line = make_line(tolerance=10.0, window=10.0, timeout=30.0)
    line.trigger.publish(Header(frame_id='bolt'))
    for camera in CAMERAS:
        line.say(camera, 'ok', time.time())
    assert line.told(1) == ['pass']
    assert line.decisions[0].header.stamp.sec > 0


def test_the_defaults_are_those_of_the_rules_and_reject_what_is_uncertain(make_line):
    declared = dataclasses.asdict(RejecterParameters())
    for name, value in dataclasses.asdict(Rules(('camera',))).items():
        assert declared[name] == value, name
    line = make_line()
    line.announce(10)
    line.say('front', 'ok', 10.1)
    line.say('back', 'uncertain', 10.1)
    assert line.told(1) == ['reject']


def test_simulated_time_that_stands_still_does_not_stop_the_dead_man(make_line):
    line = make_line(use_sim_time=True, timeout=0.6)
    line.announce(10)
    assert line.told(1) == ['reject']


def test_who_comes_late_does_not_hear_of_the_last_part(make_line):
    line = make_line()
    for topic in ('reject', 'decision'):
        (publisher,) = line.node.get_publishers_info_by_topic(f'rejecter/{topic}')
        assert publisher.qos_profile.durability == DurabilityPolicy.VOLATILE


def test_a_topic_that_nobody_publishes_is_told(make_line):
    line = make_line()
    line.status(DiagnosticStatus.OK, 'deciding')
    line.node.destroy_publisher(line.verdicts['back'])
    line.status(DiagnosticStatus.WARN, 'nobody publishes /back/verdict')


@pytest.mark.parametrize('decision', ['reject', 'hold'])
def test_a_part_that_a_camera_says_nothing_of_never_passes(make_line, decision):
    line = make_line(timeout=0.6, on_missing=decision)
    line.announce(10, 'bolt')
    line.say('front', 'ok', 10.1)
    assert line.told(1) == [decision]
    assert line.rejects == [True]
    status = line.status(DiagnosticStatus.ERROR, 'no verdict of back')
    assert 'bolt' in status.message
    assert line.clear_fault().message.startswith('cleared: part bolt')
    line.status(DiagnosticStatus.OK)


def test_a_fault_goes_by_itself_where_that_is_wanted(make_line):
    line = make_line(timeout=0.6, clear_faults_after=0.5)
    line.announce(10)
    line.status(DiagnosticStatus.ERROR)
    line.status(DiagnosticStatus.OK)


@pytest.mark.parametrize('verdict', ['', 'scratched'])
def test_what_is_no_verdict_does_not_count_as_one(make_line, verdict):
    line = make_line(timeout=0.6)
    line.announce(10)
    line.say('front', 'ok', 10.1)
    line.say('back', verdict, 10.1)
    assert line.told(1) == ['reject']
    line.wait_for(lambda: any('back says' in status.message for status in line.statuses))


def test_without_triggers_the_first_image_gives_the_header(make_line):
    line = make_line(grouping='window', window=0.2)
    line.say('back', 'ok', 10.0)
    line.say('front', 'ok', 10.1)
    assert line.told(1) == ['pass']
    assert line.decisions[0].header.frame_id in ('back_optical_frame', 'front_optical_frame')


def test_rules_change_while_it_runs_and_senseless_ones_are_refused(make_line):
    line = make_line()

    def change(name, value):
        return line.rejecter.set_parameters([Parameter(name, value=value)])[0]

    assert change('uncertain', 'hold').successful
    line.announce(10)
    line.say('front', 'ok', 10.1)
    line.say('back', 'uncertain', 10.1)
    assert line.told(1) == ['hold']
    refused = change('least_defects', 3)
    assert not refused.successful
    assert 'number of cameras, 2' in refused.reason
    assert 'one of reject, hold' in change('on_missing', 'pass').reason
    assert not change('grouping', 'window').successful
    assert not change('timeout', 0.1).successful


def test_the_arm_is_told_of_each_part_in_turn(make_line):
    line = make_line(arm_service='arm')
    line.serve_arm(SetBool, lambda _request: (True, ''))
    for part, verdict in enumerate(('ok', 'defect', 'ok')):
        line.announce(10 + part)
        for camera in CAMERAS:
            line.say(camera, verdict, 10.1 + part)
    line.wait_for(lambda: len(line.calls) == 3, what='three calls')
    assert line.calls == [False, True, False]
    assert not [status for status in line.statuses if status.level == DiagnosticStatus.ERROR]


def test_the_arm_removes_a_part_that_is_held(make_line):
    line = make_line(arm_service='arm', uncertain='hold')
    line.serve_arm(SetBool, lambda _request: (True, ''))
    line.announce(10)
    for camera in CAMERAS:
        line.say(camera, 'uncertain', 10.1)
    assert line.told(1) == ['hold']
    line.wait_for(lambda: line.calls, what='a call')
    assert line.calls == [True]


def test_an_arm_with_a_trigger_is_called_for_parts_that_do_not_pass(make_line):
    line = make_line(arm_service='arm', arm_service_type='trigger')
    line.serve_arm(Trigger, lambda _request: (False, 'gripper is open'))
    for part, verdict in enumerate(('ok', 'defect')):
        line.announce(10 + part, f'part {part}')
        for camera in CAMERAS:
            line.say(camera, verdict, 10.1 + part)
    status = line.status(DiagnosticStatus.ERROR, 'gripper is open')
    assert 'part 1' in status.message
    assert len(line.calls) == 1


def test_an_arm_that_is_not_there_is_a_fault(make_line):
    line = make_line(arm_service='arm', arm_timeout=0.3)
    line.announce(10)
    line.say('front', 'defect', 10.1)
    line.status(DiagnosticStatus.ERROR, 'was not there for 0.3 s, asked to reject the part')


def test_an_arm_that_does_not_answer_is_a_fault_and_does_not_stop_the_decisions(
    make_line, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(arm, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    line = make_line(arm_service='arm', arm_timeout=0.3)
    # A node that nobody spins is there and does not answer.
    asleep = rclpy.create_node('asleep')
    asleep.create_service(SetBool, 'arm', lambda _request, response: response)
    line.wait_for(lambda: dict(line.rejecter.get_service_names_and_types()).get('/arm'))
    time.sleep(0.2)
    for part in range(3):
        line.announce(10 + part)
        line.say('front', 'defect', 10.1 + part)
    assert line.told(3) == ['reject'] * 3
    # Told in a later callback than the one that told the arm of the last part.
    line.wait_for(lambda: line.values.get('reject') == '3')
    now[0] = 0.3
    line.wait_for(lambda: line.values.get('arm failures') == '3')
    faults = [s.message for s in line.statuses if 'for 0.3 s' in s.message]
    assert 'did not answer' in faults[0]
    assert 'had an earlier call to answer' in faults[1]
    asleep.destroy_node()


def test_an_arm_that_wakes_up_is_not_told_of_the_parts_that_have_gone_by(make_line, spinner):
    line = make_line(arm_service='arm', arm_timeout=0.3)
    arm_node = rclpy.create_node('arm_node')
    told = []

    def serve(request, response):
        told.append(request.data)
        response.success = True
        return response

    arm_node.create_service(SetBool, 'arm', serve)
    line.wait_for(lambda: dict(line.rejecter.get_service_names_and_types()).get('/arm'))
    time.sleep(0.2)
    for part in range(3):
        line.announce(10 + part)
        line.say('front', 'defect', 10.1 + part)
    line.wait_for(lambda: line.values.get('arm failures') == '3')
    spinner.add(arm_node)
    line.wait_for(lambda: told, what='the call that was under way')
    line.announce(20)
    for camera in CAMERAS:
        line.say(camera, 'ok', 20.1)
    line.wait_for(lambda: len(told) > 1, what='a call for the next part')
    assert told == [True, False]


def test_an_arm_that_is_started_again_owes_no_answer(make_line):
    line = make_line(arm_service='arm', arm_timeout=0.3)
    asleep = rclpy.create_node('asleep')
    asleep.create_service(SetBool, 'arm', lambda _request, response: response)
    line.wait_for(lambda: dict(line.rejecter.get_service_names_and_types()).get('/arm'))
    time.sleep(0.2)
    line.announce(10)
    line.say('front', 'defect', 10.1)
    line.status(DiagnosticStatus.ERROR, 'did not answer')
    asleep.destroy_node()
    line.wait_for(lambda: not line.rejecter.count_services('/arm'))
    time.sleep(0.2)
    line.serve_arm(SetBool, lambda _request: (True, ''))
    line.wait_for(lambda: line.rejecter.count_services('/arm'))
    time.sleep(0.2)
    line.announce(20)
    line.say('front', 'defect', 20.1)
    line.wait_for(lambda: line.calls, what='a call')
    assert line.calls == [True]


def test_a_publisher_that_cannot_be_heard_is_a_fault(make_line):
    line = make_line()
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    line.node.create_publisher(Header, 'trigger', profile)
    line.status(DiagnosticStatus.ERROR, 'publish reliably')


@pytest.mark.parametrize(
    ('parameters', 'named'),
    [
        ({'least_defects': 3}, 'least_defects is 3'),
        ({'cameras': ['front', 'front']}, 'a name of its own'),
        ({'uncertain': 'maybe'}, 'must be one of reject, hold, pass'),
        ({'timeout': 0.1}, 'must be longer than window'),
    ],
)
def test_parameters_that_make_no_sense_end_it_with_the_reason(make_line, parameters, named):
    with pytest.raises(ValueError, match=named):
        make_line(**parameters)
