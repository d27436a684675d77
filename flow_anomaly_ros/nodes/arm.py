# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Client of the service that removes parts: a robot arm, an ejector or a PLC."""

from collections import deque
from collections.abc import Callable
import time
from typing import Any, NamedTuple

from flow_anomaly_ros.cell.rules import Decision
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

SERVICE_TYPES = {'set_bool': SetBool, 'trigger': Trigger}


class _QueuedCall(NamedTuple):
    """A decision that the arm has not yet confirmed, and when it was queued."""

    header: Any
    decision: Decision
    queued_at: float


class Arm:
    """Sends decisions to the arm's service, one at a time and in order.

    A call that is not answered within the timeout, counted from its decision, is abandoned and
    raises a fault: a later call would make the arm pick the wrong part. While an abandoned call is
    unanswered no other is sent, since the server would queue it and act on it too late.

    Args:
        node: The node that makes the calls.
        service: Name of the service.
        service_type: `set_bool` calls the service for every part, with true to remove it;
            `trigger` calls it only for parts to remove, those that do not pass.
        timeout: Returns the maximum time in s from a decision to the response.
        on_fault: Called for each failed call, with a message of one line and the part's header.

    Attributes:
        failure_count: Number of failed calls.
    """

    def __init__(
        self,
        node: Node,
        service: str,
        service_type: str,
        timeout: Callable[[], float],
        on_fault: Callable[[str, Any], None],
    ) -> None:
        self._service_type = SERVICE_TYPES[service_type]
        self._node = node
        self._client = node.create_client(self._service_type, service)
        self._timeout = timeout
        self._on_fault = on_fault
        # The first one is in progress if there is a `_response`.
        self._calls: deque[_QueuedCall] = deque()
        self._response: Future | None = None
        self._abandoned_response: Future | None = None
        self._server_count = 0
        self.failure_count = 0

    def send(self, header: Any, decision: Decision) -> None:
        """Queue the call for a part and make it as soon as earlier calls are finished.

        Args:
            header: Header of the part.
            decision: The decision on it.
        """
        if self._service_type is Trigger and decision == Decision.PASS:
            return
        self._calls.append(_QueuedCall(header, decision, time.monotonic()))
        self.check()

    def check(self) -> None:
        """Make the next call if the arm is free, and abandon calls that have timed out."""
        self._forget_abandoned_call()
        while self._calls:
            if self._response and self._response.done():
                self._finish(self._response)
            elif time.monotonic() - self._calls[0].queued_at >= self._timeout():
                self._abandon()
            elif self._is_free():
                self._start()
            else:
                return

    def _is_free(self) -> bool:
        return not (self._response or self._abandoned_response) and self._client.service_is_ready()

    def _forget_abandoned_call(self) -> None:
        previous_count = self._server_count
        self._server_count = self._node.count_services(self._client.service_name)
        abandoned = self._abandoned_response
        # A restarted server does not know the requests to its predecessor.
        if abandoned and (abandoned.done() or self._server_count != previous_count):
            self._client.remove_pending_request(abandoned)
            self._abandoned_response = None

    def _start(self) -> None:
        request = self._service_type.Request()
        if isinstance(request, SetBool.Request):
            request.data = self._calls[0].decision != Decision.PASS
        self._response = self._client.call_async(request)
        # Start the next call on the response rather than on the next timer tick.
        self._response.add_done_callback(lambda _response: self.check())

    def _finish(self, response: Future) -> None:
        result = response.result()
        call = self._pop_call()
        if not result.success:
            reason = result.message or 'no reason given'
            text = f'{call.decision} failed: {reason}; check the arm and the part'
            self._fail(f'{self._client.service_name}: {text}', call)

    def _abandon(self) -> None:
        decision, timeout = self._calls[0].decision, f'{self._timeout():g} s'
        failure = f'{decision} not sent within {timeout}'
        if self._response:
            failure = f'no response to {decision} within {timeout}'
            remedy = 'check the arm and the part'
            self._abandoned_response = self._response
        elif self._abandoned_response:
            remedy = 'an earlier call is unanswered; check the arm and the part'
        elif self._client.service_is_ready():
            remedy = 'the arm is busy; check the part'
        else:
            remedy = 'the service is not available; check the part and start the driver of the arm'
        self._fail(f'{self._client.service_name}: {failure}: {remedy}', self._pop_call())

    def _pop_call(self) -> _QueuedCall:
        self._response = None
        return self._calls.popleft()

    def _fail(self, text: str, call: _QueuedCall) -> None:
        self.failure_count += 1
        self._on_fault(text, call.header)
