# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One decision per part. No part passes unless every camera has voted on it.

The caller passes all times in seconds. `stamp` is the timestamp of an image or trigger; `now` is
the time of arrival on a monotonic clock. Timeouts are measured between arrivals only: timestamps
come from other machines, and simulated time may be paused while a real part moves on.
"""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
import math
from typing import Any, NamedTuple

from flow_anomaly_ros.cell.rules import Decision, Outcome, Rules, Vote
from flow_anomaly_ros.scoring.thresholds import Verdict

# Limits memory, whatever arrives.
MAX_PENDING_PARTS = 1000
# For how many timeouts a decided part is remembered, to recognise late verdicts on it.
LATE_VERDICT_TIMEOUTS = 5.0

_SEVERITIES = (Verdict.OK, Verdict.UNCERTAIN, Verdict.DEFECT)


class PartDecision(NamedTuple):
    """The decision on a part.

    Attributes:
        header: Header of the part's trigger or, without triggers, of its first image.
        decision: Pass, reject or hold.
        reason: The reason, one line.
        score: Highest image score of the part's votes; nan without any vote.
    """

    header: Any
    decision: Decision
    reason: str
    score: float


@dataclass(eq=False)
class Part:
    """A part and the votes on it.

    Attributes:
        header: Header of its trigger or first image.
        stamp: Timestamp of its trigger or first image.
        opened_at: Time at which that arrived.
        votes: The worst vote so far by camera.
        decision: The decision; None while the part is pending.
        missing_cameras: Cameras that had not voted when the timeout expired; None before.
    """

    header: Any
    stamp: float
    opened_at: float
    votes: dict[str, Vote] = field(default_factory=dict)
    decision: Decision | None = None
    missing_cameras: tuple[str, ...] | None = None


class CameraVerdict(NamedTuple):
    """A verdict as it arrived from a camera.

    Attributes:
        camera: Name of the camera.
        stamp: Timestamp of the image.
        header: Header of the image.
        vote: Verdict and image score.
        arrived_at: Time of arrival.
        is_stamp_repeated: Whether the camera's previous image had the same timestamp.
    """

    camera: str
    stamp: float
    header: Any
    vote: Vote
    arrived_at: float
    is_stamp_repeated: bool


class Parts(ABC):
    """Collects the verdicts on parts and decides on each part once, in the order of arrival.

    The order holds even if a later part is complete first, so that a consumer that counts decisions
    never assigns one to the wrong part.

    A camera may send several verdicts on a part while its window is open; the worst one counts. A
    part is therefore rejected immediately, but passes only when its window closes or, with
    `rules.one_image`, when every camera has voted.

    Args:
        rules: The rules.
        on_decision: Called with each decision.
        on_fault: Called for each fault, with a message of one line and the header of the part that
            it concerns, or None.

    Attributes:
        rules: The rules; may be replaced at any time.
        counts: Number of parts, of decisions by kind, and of late, bounced and unmatched messages.
        missing_verdicts: Number of verdicts that did not arrive in time, by camera.
    """

    def __init__(
        self,
        rules: Rules,
        on_decision: Callable[[PartDecision], None],
        on_fault: Callable[[str, Any], None],
    ) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()
        self.missing_verdicts: Counter[str] = Counter()
        self._on_decision = on_decision
        self._on_fault = on_fault
        self._pending: deque[Part] = deque()
        self._decided: deque[Part] = deque(maxlen=MAX_PENDING_PARTS)
        self._last_arrivals: dict[str, float] = {}
        self._silent_cameras: set[str] = set()
        self._last_stamps: dict[str, float] = {}
        # Cameras, or 'triggers', whose timestamps do not advance.
        self._stalled_sources: set[str] = set()
        # Arrival of the first image after the latest jump, by camera.
        self._clock_jumps: dict[str, float] = {}

    @property
    def pending_count(self) -> int:
        """Number of parts without a decision."""
        return len(self._pending)

    def add_verdict(self, camera: str, stamp: float, header: Any, vote: Vote, now: float) -> None:
        """Add the verdict of a camera on an image.

        Args:
            camera: Name of the camera, one of `rules.cameras`.
            stamp: Timestamp of the image.
            header: Header of the image; identifies the part if this image opens one.
            vote: Verdict and image score.
            now: Time of arrival.
        """
        # First, since the part may have timed out after the last call of `check`.
        self.check(now)
        self._last_arrivals[camera] = now
        self._silent_cameras.discard(camera)
        last_stamp = self._last_stamps.get(camera, -math.inf)
        self._last_stamps[camera] = stamp
        is_repeated = stamp == last_stamp
        self._update_stalled(camera, is_repeated)
        if stamp < last_stamp:
            self._clock_jumps[camera] = now
            self._on_fault(
                f'clock of {camera} jumped back by {last_stamp - stamp:.3g} s: check its time '
                'synchronisation',
                None,
            )
        self._assign(CameraVerdict(camera, stamp, header, vote, now, is_repeated))
        self.check(now)

    def check(self, now: float) -> None:
        """Decide on parts that are complete or timed out, and raise faults.

        Call this periodically: a decision is late by up to one period.

        Args:
            now: Current time.
        """
        while self._pending and (outcome := self._outcome(self._pending[0], now)):
            self._decide(self._pending.popleft(), outcome)
        for part in self._decided:
            if part.missing_cameras is None and self._is_timed_out(part, now):
                self._report_missing_verdicts(part)
        memory = LATE_VERDICT_TIMEOUTS * self.rules.timeout
        while self._decided and now - self._decided[0].opened_at > memory:
            self._decided.popleft()
        self._report_silent_cameras(now)

    @abstractmethod
    def _assign(self, verdict: CameraVerdict) -> None:
        """Assign a verdict to its part."""

    def _is_complete(self, part: Part, now: float) -> bool:
        """Whether no further verdict on a part is expected."""
        rules = self.rules
        if rules.missing_cameras(part.votes):
            return False
        # An image at the end of the window still needs time for its inspection.
        return rules.one_image or now - part.opened_at >= rules.window + rules.tolerance

    def _is_timed_out(self, part: Part, now: float) -> bool:
        return now - part.opened_at >= self.rules.timeout

    def _outcome(self, part: Part, now: float) -> Outcome | None:
        if self._is_complete(part, now) or self._is_timed_out(part, now):
            return self._final_outcome(part)
        return self.rules.rejection(part.votes)

    def _final_outcome(self, part: Part) -> Outcome:
        outcome = self.rules.final_outcome(part.votes)
        if self._stalled_sources and outcome.decision == Decision.PASS:
            source = min(self._stalled_sources)
            why = f'timestamps from {source} do not advance: cannot match verdicts to parts'
            return Outcome(Decision(self.rules.on_missing), why)
        return outcome

    def _open_part(self, header: Any, stamp: float, now: float) -> Part:
        if len(self._pending) == MAX_PENDING_PARTS:
            oldest = self._pending.popleft()
            self._on_fault(
                f'decided before its timeout, because {MAX_PENDING_PARTS} parts are pending; '
                'shorten timeout',
                oldest.header,
            )
            self._decide(oldest, self._final_outcome(oldest))
        part = Part(header, stamp, now)
        self._pending.append(part)
        self.counts['parts'] += 1
        return part

    def _decide(self, part: Part, outcome: Outcome) -> None:
        part.decision = outcome.decision
        self.counts[outcome.decision] += 1
        self._decided.append(part)
        scores = [vote.score for vote in part.votes.values()]
        self._on_decision(PartDecision(part.header, *outcome, max(scores, default=math.nan)))

    def _report_missing_verdicts(self, part: Part) -> None:
        part.missing_cameras = self.rules.missing_cameras(part.votes)
        self.missing_verdicts.update(part.missing_cameras)
        if part.missing_cameras:
            names = ' and '.join(part.missing_cameras)
            self._on_fault(
                f'no verdict from {names} within {self.rules.timeout:g} s (decision: '
                f'{part.decision}); check camera and detector',
                part.header,
            )

    def _add_vote(self, part: Part, camera: str, vote: Vote) -> None:
        previous = part.votes.get(camera)
        if part.decision is None:
            part.votes[camera] = max(previous or vote, vote, key=_severity)
        elif camera in (part.missing_cameras or ()):
            self.counts['late verdicts'] += 1
            self._on_fault(
                f'verdict from {camera} ({vote.verdict}) arrived after the decision '
                f'({part.decision}); speed up inspection or increase timeout',
                part.header,
            )
        elif part.decision == Decision.PASS and self.rules.blocks_pass(vote.verdict):
            self.counts['late verdicts'] += 1
            self._on_fault(
                f'verdict from {camera} is {vote.verdict}, but the part has already passed; check '
                'window, tolerance and one_image',
                part.header,
            )
        else:
            part.votes.setdefault(camera, vote)

    def _update_stalled(self, source: str, is_stamp_repeated: bool) -> None:
        """Raise one fault when timestamps stop advancing, and no further one until they resume."""
        if not is_stamp_repeated:
            self._stalled_sources.discard(source)
        elif source not in self._stalled_sources:
            self._stalled_sources.add(source)
            self._on_fault(
                f'timestamps from {source} do not advance: no part passes until they do; check '
                'clock and driver',
                None,
            )

    def _report_silent_cameras(self, now: float) -> None:
        for camera in self.rules.cameras:
            silence = now - self._last_arrivals.setdefault(camera, now)
            if 0 < self.rules.silence < silence and camera not in self._silent_cameras:
                self._silent_cameras.add(camera)
                self._on_fault(
                    f'no verdict from {camera} for {self.rules.silence:g} s; check camera and '
                    'detector',
                    None,
                )


def _severity(vote: Vote) -> tuple[int, float]:
    return _SEVERITIES.index(vote.verdict), vote.score
