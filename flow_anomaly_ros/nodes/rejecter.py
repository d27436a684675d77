# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rejecter node: turns the verdicts of several cameras into one decision per part."""

from functools import partial
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from flow_anomaly_ros.cell.latched_fault import LatchedFault
from flow_anomaly_ros.cell.parts import PartDecision
from flow_anomaly_ros.cell.rules import (
    Decision,
    MISSING_MEANINGS,
    Rules,
    UNCERTAIN_MEANINGS,
    Vote,
)
from flow_anomaly_ros.cell.triggered_parts import TriggeredParts
from flow_anomaly_ros.cell.windowed_parts import WindowedParts
from flow_anomaly_ros.nodes.arm import Arm, SERVICE_TYPES
from flow_anomaly_ros.nodes.camera_names import camera_names
from flow_anomaly_ros.nodes.parameters import Parameter, ParameterTable, warn_of_unknown
from flow_anomaly_ros.nodes.qos import small_profile
from flow_anomaly_ros.nodes.run_node import run_node
from flow_anomaly_ros.scoring.thresholds import Verdict
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import qos_policy_name_from_kind
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification, ObjectHypothesis

# A part that times out is decided at most this much late.
CHECK_PERIOD_S = 0.02
DIAGNOSTICS_PERIOD_S = 1.0

_SECONDS = (0.0, 3600.0)

PARAMETERS = (
    Parameter(
        'cameras',
        ['camera'],
        'Names of the cameras that look at every part; their verdicts are read from '
        '<camera>/verdict.',
        read_only=True,
    ),
    Parameter(
        'grouping',
        'window',
        'trigger: a std_msgs/Header on the topic trigger announces each part; window: images taken '
        'at about the same time are of the same part.',
        choices=('trigger', 'window'),
        read_only=True,
    ),
    Parameter(
        'window',
        0.5,
        'Seconds after its trigger, or either side of its first image, in which images of a part '
        'are taken; shorter than half the time between two parts.',
        limits=_SECONDS,
    ),
    Parameter(
        'one_image',
        False,
        'True if each camera takes one image of a part, as with a hardware trigger: it passes as '
        'soon as all have spoken. False waits for the end of the window: of several images the '
        'first may not have the defect in view yet.',
    ),
    Parameter(
        'tolerance',
        0.05,
        'Seconds that an image may be stamped before its trigger, or its verdict may come after '
        'the window.',
        limits=_SECONDS,
    ),
    Parameter(
        'debounce',
        0.0,
        'Seconds after a trigger in which another is the same one (a light barrier that bounces); '
        'without triggers, seconds after the window in which ok verdicts are of the same part.',
        limits=_SECONDS,
    ),
    Parameter(
        'least_defects',
        1,
        'A part is rejected if this many cameras say defect; 1 for any, at most all.',
        limits=(1, 1000),
    ),
    Parameter(
        'uncertain',
        'reject',
        'What an uncertain verdict means: reject counts it as a defect, hold holds the part unless '
        'it is rejected anyway, pass counts it as ok.',
        choices=UNCERTAIN_MEANINGS,
    ),
    Parameter(
        'timeout',
        1.0,
        'Seconds in which all verdicts of a part have to come, counted from the arrival of its '
        'trigger or first verdict. A part that lacks one then never passes.',
        limits=_SECONDS,
    ),
    Parameter(
        'on_missing',
        'reject',
        'What becomes of a part that lacks a verdict: reject or hold.',
        choices=MISSING_MEANINGS,
    ),
    Parameter(
        'silence',
        0.0,
        'Seconds without any verdict of a camera that are a fault; 0 never is.',
        limits=_SECONDS,
    ),
    Parameter(
        'clear_faults_after',
        0.0,
        'Seconds without a new fault after which the diagnostics show it no longer; 0 shows it '
        'until ~/clear_fault is called.',
        limits=(0.0, 1e6),
    ),
    Parameter(
        'arm_service',
        '',
        'Service to call for the parts; empty calls none.',
        read_only=True,
    ),
    Parameter(
        'arm_service_type',
        'set_bool',
        'set_bool: std_srvs/SetBool, called for every part, true to remove it; trigger: '
        'std_srvs/Trigger, called for every part that does not pass.',
        choices=tuple(SERVICE_TYPES),
        read_only=True,
    ),
    Parameter(
        'arm_timeout',
        2.0,
        'Seconds from a decision to the answer of the arm; a later one is given up and is a fault.',
        limits=_SECONDS,
    ),
)

# Parameters that are fields of `Rules`, with the same names.
_RULES = (
    'least_defects',
    'uncertain',
    'on_missing',
    'timeout',
    'window',
    'tolerance',
    'debounce',
    'silence',
    'one_image',
)


class RejecterNode(Node):
    """Decides on parts from the verdicts of cameras; `PARAMETERS` lists its parameters.

    For each part, in the order of the parts, it publishes ~/decision
    (vision_msgs/Classification: `pass`, `reject` or `hold`) and ~/reject (std_msgs/Bool: true for
    `reject` and `hold`).

    Args:
        options: Keyword arguments of `rclpy.node.Node`, such as `parameter_overrides`.

    Raises:
        ValueError: A camera name or a parameter is invalid; one line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('rejecter', **options)
        self.parameters = ParameterTable(self, PARAMETERS)
        warn_of_unknown(self)
        self._cameras = camera_names(self.parameters['cameras'])
        self._fault = LatchedFault()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Volatile: a late subscriber must not apply the last part's decision to the next part.
        self._reject = self.create_publisher(Bool, '~/reject', small_profile())
        self._decision = self.create_publisher(Classification, '~/decision', small_profile())
        service = self.parameters['arm_service']
        kind = self.parameters['arm_service_type']
        self._arm = (
            Arm(self, service, kind, lambda: self.parameters['arm_timeout'], self._raise_fault)
            if service
            else None
        )
        is_triggered = self.parameters['grouping'] == 'trigger'
        parts_class = TriggeredParts if is_triggered else WindowedParts
        self._parts = parts_class(self._rules(), self._publish_decision, self._raise_fault)
        self._input_topics = [
            self._subscribe(Classification, f'{camera}/verdict', partial(self._on_verdict, camera))
            for camera in self._cameras
        ]
        if is_triggered:
            self._input_topics.append(self._subscribe(Header, 'trigger', self._on_trigger))
        self.create_service(Trigger, '~/clear_fault', self._on_clear_fault)
        self.add_on_set_parameters_callback(self._validate_rules)
        self.add_post_set_parameters_callback(self._apply_rules)
        # Real parts move on while simulated time is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(CHECK_PERIOD_S, self._check, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        self.get_logger().info(
            f'grouping: {self.parameters["grouping"]}; inputs: {", ".join(self._input_topics)}; '
            f'arm service: {service or "none"}'
        )

    def _subscribe(self, message_type: type, topic: str, callback: Any) -> str:
        """Subscribe to a topic and return its resolved name."""
        resolved = self.resolve_topic_name(topic)

        def on_incompatible_qos(event: QoSRequestedIncompatibleQoSInfo) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            self._raise_fault(
                f'a publisher on {resolved} offers incompatible QoS ({policy}): its messages are '
                'not received; publish as reliable',
                None,
            )

        self.create_subscription(
            message_type,
            topic,
            callback,
            small_profile(),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=on_incompatible_qos),
        )
        return resolved

    # Parameters -----------------------------------------------------------------------------

    def _rules(self, changes: dict[str, Any] | None = None) -> Rules:
        values = {name: self.parameters[name] for name in _RULES} | (changes or {})
        return Rules(self._cameras, **{name: values[name] for name in _RULES})

    def _validate_rules(self, parameters: list[RosParameter]) -> SetParametersResult:
        try:
            self._rules(self.parameters.changed(parameters))
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_rules(self, _parameters: list[RosParameter]) -> None:
        self._parts.rules = self._rules()

    # Parts ----------------------------------------------------------------------------------

    def _on_trigger(self, header: Header) -> None:
        assert isinstance(self._parts, TriggeredParts)
        if not _seconds(header):
            header.stamp = self.get_clock().now().to_msg()
        self._parts.add_trigger(_seconds(header), header, time.monotonic())

    def _on_verdict(self, camera: str, message: Classification) -> None:
        class_id = message.results[0].class_id if message.results else ''
        try:
            vote = Vote(Verdict(class_id), message.results[0].score)
        except ValueError:
            expected = ', '.join(Verdict)
            self._raise_fault(
                f'verdict {class_id!r} from {camera} is ignored: expected one of {expected}',
                message.header,
            )
            return
        self._parts.add_verdict(
            camera, _seconds(message.header), message.header, vote, time.monotonic()
        )

    def _check(self) -> None:
        self._parts.check(time.monotonic())
        if self._arm:
            self._arm.check()

    def _publish_decision(self, part: PartDecision) -> None:
        self._reject.publish(Bool(data=part.decision != Decision.PASS))
        hypothesis = ObjectHypothesis(class_id=str(part.decision), score=part.score)
        self._decision.publish(Classification(header=part.header, results=[hypothesis]))
        if self._arm:
            self._arm.send(part.header, part.decision)
        self.get_logger().info(f'part {_part_name(part.header)}: {part.decision} ({part.reason})')

    # Faults ---------------------------------------------------------------------------------

    def _raise_fault(self, text: str, header: Header | None) -> None:
        message = f'part {_part_name(header)}: {text}' if header else text
        self._fault.set(message, time.monotonic())
        self.get_logger().error(message)
        self._publish_diagnostics()

    def _on_clear_fault(
        self, _request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        response.success = True
        response.message = f'cleared: {self._fault.text}' if self._fault.text else 'no fault'
        self._fault.clear()
        self._publish_diagnostics()
        return response

    def _publish_diagnostics(self) -> None:
        self._fault.expire(time.monotonic(), self.parameters['clear_faults_after'])
        array = DiagnosticArray(status=[self._status()])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _status(self) -> DiagnosticStatus:
        level, message = DiagnosticStatus.OK, 'deciding'
        unpublished = [topic for topic in self._input_topics if not self.count_publishers(topic)]
        if self._fault.text:
            level, message = DiagnosticStatus.ERROR, self._fault.text
        elif unpublished:
            level, message = DiagnosticStatus.WARN, f'no publisher on {", ".join(unpublished)}'
        counts = self._parts.counts
        values = {
            'parts': counts['parts'],
            'waiting': self._parts.pending_count,
            **{str(decision): counts[decision] for decision in Decision},
            **{
                f'missing verdicts {camera}': self._parts.missing_verdicts[camera]
                for camera in self._cameras
            },
            'late verdicts': counts['late verdicts'],
            'verdicts without part': counts['verdicts without part'],
            'bounced': counts['bounced triggers'] + counts['bounced verdicts'],
            'arm failures': self._arm.failure_count if self._arm else 'no arm',
            'faults': self._fault.count,
        }
        return DiagnosticStatus(
            level=level,
            name=f'{self.get_fully_qualified_name().lstrip("/")}: parts',
            message=message,
            hardware_id=self.get_namespace().strip('/') or self.get_name(),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )


def _seconds(header: Header) -> float:
    return header.stamp.sec + 1e-9 * header.stamp.nanosec


def _part_name(header: Header) -> str:
    return f'{header.frame_id} at {_seconds(header):.3f}'.strip()


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node('rejecter', _spin, args)


def _spin() -> None:
    node = RejecterNode()
    try:
        rclpy.spin(node)
    finally:
        node.destroy_node()


if __name__ == '__main__':
    main()
