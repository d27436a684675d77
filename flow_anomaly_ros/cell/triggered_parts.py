# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts that are announced by a trigger: a light barrier, a PLC or the robot arm."""

from collections import deque
from collections.abc import Callable
from typing import Any

from flow_anomaly_ros.cell.parts import CameraVerdict, Part, PartDecision, Parts
from flow_anomaly_ros.cell.rules import Rules

# Limits memory, whatever arrives.
MAX_EARLY_VERDICTS = 1000


class TriggeredParts(Parts):
    """Decides on parts that are announced by a trigger.

    A verdict belongs to the newest part whose trigger lies at most `rules.window` before the image
    and at most `rules.tolerance` after it. A verdict that arrives before its trigger is kept for
    `rules.timeout`.

    Args:
        rules: The rules.
        on_decision: Called with each decision.
        on_fault: Called for each fault, with a message of one line and the header of the part that
            it concerns, or None.
    """

    def __init__(
        self,
        rules: Rules,
        on_decision: Callable[[PartDecision], None],
        on_fault: Callable[[str, Any], None],
    ) -> None:
        super().__init__(rules, on_decision, on_fault)
        self._early_verdicts: deque[CameraVerdict] = deque()
        self._newest: Part | None = None

    def add_trigger(self, stamp: float, header: Any, now: float) -> None:
        """Open a part, unless the trigger is a bounce of the previous one.

        Args:
            stamp: Timestamp of the trigger.
            header: Identifies the part; returned with its decision.
            now: Time of arrival.
        """
        if self._is_bounce(stamp, now):
            self.counts['bounced triggers'] += 1
            return
        self._newest = self._open_part(header, stamp, now)
        early_verdicts = list(self._early_verdicts)
        self._early_verdicts.clear()
        for verdict in early_verdicts:
            self._assign(verdict)
        self.check(now)

    def check(self, now: float) -> None:
        """Drop early verdicts whose trigger never came, then proceed as `Parts.check`.

        Args:
            now: Current time.
        """
        timeout = self.rules.timeout
        while self._early_verdicts and now - self._early_verdicts[0].arrived_at > timeout:
            self._drop_oldest_early_verdict()
        super().check(now)

    def _is_bounce(self, stamp: float, now: float) -> bool:
        """Whether a trigger repeats the previous one; raises faults about its timestamp."""
        newest, rules = self._newest, self.rules
        if newest is None:
            return False
        stamp_interval, arrival_interval = stamp - newest.stamp, now - newest.opened_at
        is_repeated = stamp_interval == 0
        if is_repeated and arrival_interval <= max(rules.debounce, rules.tolerance):
            return True
        self._update_stalled('triggers', is_repeated)
        min_interval = rules.window + rules.tolerance
        # A trigger that arrives later than this announces a part even if its clock is wrong.
        max_bounce = min_interval + rules.debounce
        if 0 < abs(stamp_interval) <= rules.debounce and arrival_interval <= max_bounce:
            return True
        is_too_soon = 0 < stamp_interval <= min_interval
        if is_too_soon and arrival_interval <= rules.timeout + rules.debounce:
            self._on_fault(
                f'the next trigger is only {stamp_interval:.3g} s later, within window + '
                f'tolerance ({min_interval:.3g} s): verdicts may be assigned to the wrong part; '
                'shorten window or tolerance',
                newest.header,
            )
        return False

    def _assign(self, verdict: CameraVerdict) -> None:
        if part := self._part_of(verdict.stamp):
            self._add_vote(part, verdict.camera, verdict.vote)
            return
        if len(self._early_verdicts) == MAX_EARLY_VERDICTS:
            self._drop_oldest_early_verdict()
        self._early_verdicts.append(verdict)

    def _drop_oldest_early_verdict(self) -> None:
        self._early_verdicts.popleft()
        self.counts['verdicts without part'] += 1

    def _part_of(self, stamp: float) -> Part | None:
        rules = self.rules
        for part in (*reversed(self._pending), *reversed(self._decided)):
            if -rules.tolerance <= stamp - part.stamp <= rules.window:
                return part
        return None
