# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rejecter node over DDS: decisions, timeouts, the arm and faults."""

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


class RejecterHarness:
    """A rejecter's surroundings: cameras, a light barrier, an arm and its subscribers."""

    def __init__(self, node, rejecter, wait_for):
        self.node, self.rejecter, self.wait_for = node, rejecter, wait_for
        self.trigger = node.create_publisher(Header, 'trigger', 10)
        self.verdicts = {
            camera: node.create_publisher(Classification, f'{camera}/verdict', 10)
            for camera in CAMERAS
        }
        self.decisions, self.rejects, self.statuses, self.arm_calls = [], [], [], []
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
            all(publisher.get_subscription_count() for publisher in inputs)
            and self.rejecter.count_subscribers('rejecter/reject')
            and self.rejecter.count_subscribers('rejecter/decision')
            and self.node.count_publishers('/diagnostics')
        )

    def send_trigger(self, seconds, name=''):
        self.trigger.publish(Header(stamp=stamp(seconds), frame_id=name))

    def send_verdict(self, camera, verdict, seconds, score=0.5):
        results = [ObjectHypothesis(class_id=verdict, score=score)] if verdict else []
        header = Header(stamp=stamp(seconds), frame_id=f'{camera}_optical_frame')
        self.verdicts[camera].publish(Classification(header=header, results=results))

    def wait_for_decisions(self, count):
        """Wait for a number of decisions and return their class ids."""
        self.wait_for(lambda: len(self.decisions) >= count, what=f'{count} decisions')
        self.wait_for(lambda: len(self.rejects) >= count)
        return [message.results[0].class_id for message in self.decisions]

    def wait_for_status(self, level, text=''):
        """Wait until the latest status has this level and contains this text."""

        def latest():
            last = self.statuses[-1] if self.statuses else None
            return last if last and last.level == level and text in last.message else None

        return self.wait_for(latest, what=f'status {level} {text!r}')

    @property
    def values(self):
        """The key-value pairs of the latest status."""
        return {pair.key: pair.value for status in self.statuses[-1:] for pair in status.values}

    def clear_fault(self):
        client = self.node.create_client(Trigger, 'rejecter/clear_fault')
        self.wait_for(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        return self.wait_for(lambda: future.done() and future.result(), what='a response')

    def serve_arm(self, service_type, handler):
        """Serve `arm`; `handler(request)` returns (success, message)."""

        def serve(request, response):
            self.arm_calls.append(getattr(request, 'data', None))
            response.success, response.message = handler(request)
            return response

        self.node.create_service(service_type, 'arm', serve)


def stamp(seconds):
    return Time(sec=int(seconds), nanosec=round(1e9 * (seconds % 1)))


@pytest.fixture
def make_harness(spinner, wait_for):
    """Make a rejecter of two cameras and the harness around it."""

    def make(**parameters):
        values = {
            'cameras': list(CAMERAS),
            'grouping': 'trigger',
            'one_image': True,
            'timeout': 5.0,
        } | parameters
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        rejecter = spinner.add(RejecterNode(parameter_overrides=overrides))
        return RejecterHarness(spinner.add(rclpy.create_node('harness')), rejecter, wait_for)

    return make


def test_each_trigger_gets_one_decision_with_its_header(make_harness):
    harness = make_harness()
    for part, verdicts in enumerate((('ok', 'ok'), ('ok', 'defect'))):
        harness.send_trigger(10 + part, f'part {part}')
        for camera, verdict in zip(CAMERAS, verdicts, strict=True):
            harness.send_verdict(camera, verdict, 10.1 + part, score=0.25 * (1 + part))
    assert harness.wait_for_decisions(2) == ['pass', 'reject']
    assert harness.rejects == [False, True]
    assert [message.header.frame_id for message in harness.decisions] == ['part 0', 'part 1']
    assert harness.decisions[1].header.stamp == stamp(11)
    assert harness.decisions[1].results[0].score == 0.5
    harness.wait_for(lambda: harness.values.get('pass') == '1')
    assert harness.values['reject'] == '1'
    assert harness.values.keys() >= {'parts', 'hold', 'missing verdicts back', 'arm failures'}
    assert harness.wait_for_status(DiagnosticStatus.OK).name == 'rejecter: parts'


def test_parts_less_than_a_second_apart_are_told_apart(make_harness):
    harness = make_harness()
    for seconds, verdict in ((10.0, 'ok'), (10.7, 'defect')):
        harness.send_trigger(seconds)
        for camera in CAMERAS:
            harness.send_verdict(camera, verdict, seconds + 0.1)
    assert harness.wait_for_decisions(2) == ['pass', 'reject']


def test_a_trigger_without_a_timestamp_gets_the_current_time(make_harness):
    harness = make_harness(tolerance=10.0, window=10.0, timeout=30.0)
    harness.trigger.publish(Header(frame_id='bolt'))
    for camera in CAMERAS:
        harness.send_verdict(camera, 'ok', time.time())
    assert harness.wait_for_decisions(1) == ['pass']
    assert harness.decisions[0].header.stamp.sec > 0


def test_the_parameter_defaults_are_those_of_the_rules_and_reject_uncertain_parts(make_harness):
    declared = dataclasses.asdict(RejecterParameters())
    for name, value in dataclasses.asdict(Rules(('camera',))).items():
        assert declared[name] == value, name
    harness = make_harness()
    harness.send_trigger(10)
    harness.send_verdict('front', 'ok', 10.1)
    harness.send_verdict('back', 'uncertain', 10.1)
    assert harness.wait_for_decisions(1) == ['reject']


def test_parts_time_out_while_simulated_time_is_paused(make_harness):
    harness = make_harness(use_sim_time=True, timeout=0.6)
    harness.send_trigger(10)
    assert harness.wait_for_decisions(1) == ['reject']


def test_a_late_subscriber_does_not_receive_the_last_decision(make_harness):
    harness = make_harness()
    for topic in ('reject', 'decision'):
        (publisher,) = harness.node.get_publishers_info_by_topic(f'rejecter/{topic}')
        assert publisher.qos_profile.durability == DurabilityPolicy.VOLATILE


def test_a_topic_without_a_publisher_is_reported(make_harness):
    harness = make_harness()
    harness.wait_for_status(DiagnosticStatus.OK, 'running')
    harness.node.destroy_publisher(harness.verdicts['back'])
    harness.wait_for_status(DiagnosticStatus.WARN, 'no publisher on /back/verdict')


@pytest.mark.parametrize('decision', ['reject', 'hold'])
def test_a_part_with_a_missing_verdict_never_passes(make_harness, decision):
    harness = make_harness(timeout=0.6, on_missing=decision)
    harness.send_trigger(10, 'bolt')
    harness.send_verdict('front', 'ok', 10.1)
    assert harness.wait_for_decisions(1) == [decision]
    assert harness.rejects == [True]
    status = harness.wait_for_status(DiagnosticStatus.ERROR, 'no verdict from back')
    assert 'bolt' in status.message
    assert harness.clear_fault().message.startswith('cleared: part bolt')
    harness.wait_for_status(DiagnosticStatus.OK)


def test_a_fault_expires_after_clear_faults_after(make_harness):
    harness = make_harness(timeout=0.6, clear_faults_after=0.5)
    harness.send_trigger(10)
    harness.wait_for_status(DiagnosticStatus.ERROR)
    harness.wait_for_status(DiagnosticStatus.OK)


@pytest.mark.parametrize('verdict', ['', 'scratched'])
def test_an_invalid_verdict_is_ignored_and_raises_a_fault(make_harness, verdict):
    harness = make_harness(timeout=0.6)
    harness.send_trigger(10)
    harness.send_verdict('front', 'ok', 10.1)
    harness.send_verdict('back', verdict, 10.1)
    assert harness.wait_for_decisions(1) == ['reject']
    harness.wait_for(
        lambda: any('from back is ignored' in status.message for status in harness.statuses)
    )


def test_without_triggers_a_decision_has_the_header_of_the_first_image(make_harness):
    harness = make_harness(grouping='window', window=0.2)
    harness.send_verdict('back', 'ok', 10.0)
    harness.send_verdict('front', 'ok', 10.1)
    assert harness.wait_for_decisions(1) == ['pass']
    assert harness.decisions[0].header.frame_id in ('back_optical_frame', 'front_optical_frame')


def test_rules_can_change_at_run_time_and_invalid_ones_are_refused(make_harness):
    harness = make_harness()

    def change(name, value):
        return harness.rejecter.set_parameters([Parameter(name, value=value)])[0]

    assert change('uncertain', 'hold').successful
    harness.send_trigger(10)
    harness.send_verdict('front', 'ok', 10.1)
    harness.send_verdict('back', 'uncertain', 10.1)
    assert harness.wait_for_decisions(1) == ['hold']
    refused = change('least_defects', 3)
    assert not refused.successful
    assert 'number of cameras, 2' in refused.reason
    assert 'one of reject, hold' in change('on_missing', 'pass').reason
    assert not change('grouping', 'window').successful
    assert not change('timeout', 0.1).successful


def test_the_arm_is_called_for_each_part_in_order(make_harness):
    harness = make_harness(arm_service='arm')
    harness.serve_arm(SetBool, lambda _request: (True, ''))
    for part, verdict in enumerate(('ok', 'defect', 'ok')):
        harness.send_trigger(10 + part)
        for camera in CAMERAS:
            harness.send_verdict(camera, verdict, 10.1 + part)
    harness.wait_for(lambda: len(harness.arm_calls) == 3, what='three calls')
    assert harness.arm_calls == [False, True, False]
    assert not [status for status in harness.statuses if status.level == DiagnosticStatus.ERROR]


def test_the_arm_removes_a_held_part(make_harness):
    harness = make_harness(arm_service='arm', uncertain='hold')
    harness.serve_arm(SetBool, lambda _request: (True, ''))
    harness.send_trigger(10)
    for camera in CAMERAS:
        harness.send_verdict(camera, 'uncertain', 10.1)
    assert harness.wait_for_decisions(1) == ['hold']
    harness.wait_for(lambda: harness.arm_calls, what='a call')
    assert harness.arm_calls == [True]


def test_a_trigger_service_is_called_only_for_parts_that_do_not_pass(make_harness):
    harness = make_harness(arm_service='arm', arm_service_type='trigger')
    harness.serve_arm(Trigger, lambda _request: (False, 'gripper is open'))
    for part, verdict in enumerate(('ok', 'defect')):
        harness.send_trigger(10 + part, f'part {part}')
        for camera in CAMERAS:
            harness.send_verdict(camera, verdict, 10.1 + part)
    status = harness.wait_for_status(DiagnosticStatus.ERROR, 'gripper is open')
    assert 'part 1' in status.message
    assert len(harness.arm_calls) == 1


def test_an_unavailable_arm_raises_a_fault(make_harness):
    harness = make_harness(arm_service='arm', arm_timeout=0.3)
    harness.send_trigger(10)
    harness.send_verdict('front', 'defect', 10.1)
    harness.wait_for_status(
        DiagnosticStatus.ERROR, '/arm: reject not sent within 0.3 s: the service is not available'
    )


def test_an_arm_that_does_not_respond_raises_a_fault_and_does_not_stop_the_decisions(
    make_harness, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(arm, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    harness = make_harness(arm_service='arm', arm_timeout=0.3)
    # The service of a node that is not spun is available but does not respond.
    unresponsive = rclpy.create_node('unresponsive')
    unresponsive.create_service(SetBool, 'arm', lambda _request, response: response)
    harness.wait_for(lambda: dict(harness.rejecter.get_service_names_and_types()).get('/arm'))
    time.sleep(0.2)
    for part in range(3):
        harness.send_trigger(10 + part)
        harness.send_verdict('front', 'defect', 10.1 + part)
    assert harness.wait_for_decisions(3) == ['reject'] * 3
    # These diagnostics are published after the call for the last part was queued.
    harness.wait_for(lambda: harness.values.get('reject') == '3')
    now[0] = 0.3
    harness.wait_for(lambda: harness.values.get('arm failures') == '3')
    faults = [s.message for s in harness.statuses if 'within 0.3 s' in s.message]
    assert 'no response to reject within 0.3 s' in faults[0]
    assert 'an earlier call is unanswered' in faults[1]
    unresponsive.destroy_node()


def test_an_arm_that_recovers_is_not_called_for_parts_that_have_passed_by(make_harness, spinner):
    harness = make_harness(arm_service='arm', arm_timeout=0.3)
    arm_node = rclpy.create_node('arm_node')
    arm_calls = []

    def serve(request, response):
        arm_calls.append(request.data)
        response.success = True
        return response

    arm_node.create_service(SetBool, 'arm', serve)
    harness.wait_for(lambda: dict(harness.rejecter.get_service_names_and_types()).get('/arm'))
    time.sleep(0.2)
    for part in range(3):
        harness.send_trigger(10 + part)
        harness.send_verdict('front', 'defect', 10.1 + part)
    harness.wait_for(lambda: harness.values.get('arm failures') == '3')
    spinner.add(arm_node)
    harness.wait_for(lambda: arm_calls, what='the call in progress')
    harness.send_trigger(20)
    for camera in CAMERAS:
        harness.send_verdict(camera, 'ok', 20.1)
    harness.wait_for(lambda: len(arm_calls) > 1, what='a call for the next part')
    assert arm_calls == [True, False]


def test_a_restarted_arm_is_called_again(make_harness):
    harness = make_harness(arm_service='arm', arm_timeout=0.3)
    unresponsive = rclpy.create_node('unresponsive')
    unresponsive.create_service(SetBool, 'arm', lambda _request, response: response)
    harness.wait_for(lambda: dict(harness.rejecter.get_service_names_and_types()).get('/arm'))
    time.sleep(0.2)
    harness.send_trigger(10)
    harness.send_verdict('front', 'defect', 10.1)
    harness.wait_for_status(DiagnosticStatus.ERROR, 'no response to reject')
    unresponsive.destroy_node()
    harness.wait_for(lambda: not harness.rejecter.count_services('/arm'))
    time.sleep(0.2)
    harness.serve_arm(SetBool, lambda _request: (True, ''))
    harness.wait_for(lambda: harness.rejecter.count_services('/arm'))
    time.sleep(0.2)
    harness.send_trigger(20)
    harness.send_verdict('front', 'defect', 20.1)
    harness.wait_for(lambda: harness.arm_calls, what='a call')
    assert harness.arm_calls == [True]


def test_a_publisher_with_incompatible_qos_raises_a_fault(make_harness):
    harness = make_harness()
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    harness.node.create_publisher(Header, 'trigger', profile)
    harness.wait_for_status(DiagnosticStatus.ERROR, 'publish as reliable')


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'least_defects': 3}, 'least_defects is 3'),
        ({'cameras': ['front', 'front']}, 'they must be unique'),
        ({'uncertain': 'maybe'}, 'must be one of reject, hold, pass'),
        ({'timeout': 0.1}, 'must be longer than window'),
    ],
)
def test_invalid_parameters_are_refused_with_the_reason(make_harness, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_harness(**parameters)
