# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The service of a robot arm, or of whatever else removes parts."""

from collections import deque
from collections.abc import Callable
import time
from typing import Any, NamedTuple

from flow_anomaly_ros.cell.rules import Decision
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

SERVICE_TYPES = {'set_bool': SetBool, 'trigger': Trigger}


class _Call(NamedTuple):
    """A decision that the arm has to be told, and when it was made."""

    header: Any
    decision: Decision
    made: float


class Arm:
    """Tells an arm of decisions, one after the other, and sees to it that it answers.

    A call that could not be made or was not answered in time after its decision is given up and
    reported: an arm that acts on it later would take hold of another part. No other is made before
    the arm has answered, lest they queue up behind it and are all acted on too late.

    Args:
        node: The node that calls.
        service: Name of the service.
        kind: `set_bool` is called for every part, with true for one that has to go; `trigger` for
            every part that has to go.
        timeout: Gives the seconds from a decision to the arm's answer.
        fault: Called with one line about each call that failed, and the header of the part.

    Attributes:
        failed: Number of calls that failed.
    """

    def __init__(
        self,
        node: Node,
        service: str,
        kind: str,
        timeout: Callable[[], float],
        fault: Callable[[str, Any], None],
    ) -> None:
        self._kind = SERVICE_TYPES[kind]
        self._node = node
        self._client = node.create_client(self._kind, service)
        self._timeout = timeout
        self._fault = fault
        self._calls: deque[_Call] = deque()
        self._answer: Future | None = None
        # Of a call that was given up.
        self._owed: Future | None = None
        self._servers = 0
        self.failed = 0

    def tell(self, header: Any, decision: Decision) -> None:
        """Call the service for a part, after the calls for the parts before it.

        Args:
            header: Header of the part.
            decision: What becomes of it.
        """
        if self._kind is Trigger and decision == Decision.PASS:
            return
        self._calls.append(_Call(header, decision, time.monotonic()))
        self.check()

    def check(self) -> None:
        """Make the next call if it is due, and give up calls that are too old."""
        self._forgive_owed()
        while self._calls:
            if self._answer and self._answer.done():
                self._finish(self._answer)
            elif time.monotonic() - self._calls[0].made >= self._timeout():
                self._give_up()
            elif not (self._answer or self._owed) and self._client.service_is_ready():
                self._start()
            else:
                return

    def _forgive_owed(self) -> None:
        servers, self._servers = self._servers, self._node.count_services(self._client.service_name)
        # A server that has been started again knows nothing of what the one before was asked.
        if self._owed and (self._owed.done() or servers != self._servers):
            self._client.remove_pending_request(self._owed)
            self._owed = None

    def _start(self) -> None:
        request = self._kind.Request()
        if isinstance(request, SetBool.Request):
            request.data = self._calls[0].decision != Decision.PASS
        self._answer = self._client.call_async(request)
        # The next call waits for this answer, not for the next look at the clock.
        self._answer.add_done_callback(lambda _answer: self.check())

    def _finish(self, answer: Future) -> None:
        response = answer.result()
        call = self._next()
        if not response.success:
            self._fail(f'the arm refused {call.decision}: {response.message or "no reason"}', call)

    def _give_up(self) -> None:
        why = 'was busy' if self._client.service_is_ready() else 'was not there'
        if self._answer:
            why = 'did not answer'
            self._owed = self._answer
        elif self._owed:
            why = 'had an earlier call to answer'
        call = self._next()
        name, seconds = self._client.service_name, self._timeout()
        self._fail(f'{name} {why} for {seconds:g} s, asked to {call.decision} the part', call)

    def _next(self) -> _Call:
        self._answer = None
        return self._calls.popleft()

    def _fail(self, text: str, call: _Call) -> None:
        self.failed += 1
        self._fault(text, call.header)
