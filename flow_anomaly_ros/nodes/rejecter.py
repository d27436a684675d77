# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rejecter node: turns the verdicts of several cameras into one decision per part."""

from functools import partial
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from flow_anomaly_ros.cell.latched_fault import LatchedFault
from flow_anomaly_ros.cell.parts import PartDecision
from flow_anomaly_ros.cell.rules import Decision, Rules, Vote
from flow_anomaly_ros.cell.triggered_parts import TriggeredParts
from flow_anomaly_ros.cell.windowed_parts import WindowedParts
from flow_anomaly_ros.nodes.arm import Arm
from flow_anomaly_ros.nodes.camera_names import require_camera_names
from flow_anomaly_ros.nodes.parameters.listener import ParameterListener, warn_unknown_parameters
from flow_anomaly_ros.nodes.parameters.rejecter import RejecterParameters
from flow_anomaly_ros.nodes.qos import small_profile
from flow_anomaly_ros.nodes.run_node import run_node
from flow_anomaly_ros.scoring.thresholds import Verdict
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification, ObjectHypothesis

# A part that times out is decided at most this much late.
CHECK_PERIOD_S = 0.02
DIAGNOSTICS_PERIOD_S = 1.0

# Parameters that are fields of Rules.
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
    """Decides on parts; its parameters are `RejecterParameters`.

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
        self._parameter_listener = ParameterListener(self, RejecterParameters)
        warn_unknown_parameters(self)
        parameters = self.parameters
        self._cameras = parameters.cameras
        require_camera_names(self._cameras)
        self._fault = LatchedFault()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Volatile: a late subscriber must not apply the last part's decision to the next part.
        self._reject = self.create_publisher(Bool, '~/reject', small_profile())
        self._decision = self.create_publisher(Classification, '~/decision', small_profile())
        service, kind = parameters.arm_service, parameters.arm_service_type
        self._arm = (
            Arm(self, service, kind, lambda: self.parameters.arm_timeout, self._raise_fault)
            if service
            else None
        )
        is_triggered = parameters.grouping == 'trigger'
        parts_class = TriggeredParts if is_triggered else WindowedParts
        self._parts = parts_class(
            self._rules(parameters), self._publish_decision, self._raise_fault
        )
        self._input_topics = [
            self._subscribe(Classification, f'{camera}/verdict', partial(self._on_verdict, camera))
            for camera in self._cameras
        ]
        if is_triggered:
            self._input_topics.append(self._subscribe(Header, 'trigger', self._on_trigger))
        self.create_service(Trigger, '~/clear_fault', self._on_clear_fault)
        self._parameter_listener.on_change(self._apply_rules, self._validate_rules)
        # Real parts move on while simulated time is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(CHECK_PERIOD_S, self._check, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        self.get_logger().info(
            f'grouping: {parameters.grouping}; inputs: {", ".join(self._input_topics)}; '
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

    @property
    def parameters(self) -> RejecterParameters:
        """The present values of the parameters."""
        return self._parameter_listener.values

    def _rules(self, parameters: RejecterParameters) -> Rules:
        return Rules(self._cameras, **{name: getattr(parameters, name) for name in _RULES})

    def _validate_rules(self, parameters: RejecterParameters, _names: frozenset[str]) -> None:
        self._rules(parameters)

    def _apply_rules(self, parameters: RejecterParameters, _names: frozenset[str]) -> None:
        self._parts.rules = self._rules(parameters)

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
        self._fault.expire(time.monotonic(), self.parameters.clear_faults_after)
        array = DiagnosticArray(status=[self._status()])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _status(self) -> DiagnosticStatus:
        level, message = DiagnosticStatus.OK, 'running'
        unpublished = [topic for topic in self._input_topics if not self.count_publishers(topic)]
        if self._fault.text:
            level, message = DiagnosticStatus.ERROR, self._fault.text
        elif unpublished:
            level = DiagnosticStatus.WARN
            message = f'no publisher on {", ".join(unpublished)}: start the publishing node'
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
