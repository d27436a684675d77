# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One decision per part, from verdicts in any order, and never a pass without all of them.

Times are given by the caller: `stamp` is that of an image or trigger, `now` the time of arrival on
a clock that nobody sets. Whether a part has waited too long is a matter of arrivals alone: stamps
come from other machines, and simulated time may stand still while a real part goes by.
"""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
import math
from typing import Any, NamedTuple

from flow_anomaly_ros.cell.rules import Decision, Outcome, Rules, Vote
from flow_anomaly_ros.scoring.thresholds import Verdict

# Parts and early verdicts that are kept at most, whatever arrives.
MAX_PENDING_PARTS = 1000
# A decided part is remembered for so many timeouts, to tell a late verdict from a stray one.
LATE_VERDICT_MEMORY = 5.0

_SEVERITIES = (Verdict.OK, Verdict.UNCERTAIN, Verdict.DEFECT)


class PartDecision(NamedTuple):
    """What becomes of a part.

    Attributes:
        header: What the caller gave with the trigger or the first verdict.
        decision: Pass, reject or hold.
        reason: Why, in one line.
        score: Highest image score of its verdicts; nan if there is none.
    """

    header: Any
    decision: Decision
    reason: str
    score: float


@dataclass(eq=False)
class _Part:
    """A part; `missing` is known once its time is up."""

    header: Any
    stamp: float
    opened: float
    votes: dict[str, Vote] = field(default_factory=dict)
    decision: Decision | None = None
    missing: tuple[str, ...] | None = None


class _Arrival(NamedTuple):
    """A verdict, of an image that was taken at `stamp`, that came at `now`.

    It is `still` if the camera's image before had the very same stamp.
    """

    camera: str
    stamp: float
    header: Any
    vote: Vote
    now: float
    still: bool


class Parts(ABC):
    """Collects the verdicts of parts and decides on each part once, in the order they were opened.

    The order holds even if a later part is complete earlier: who only counts decisions must not
    mistake one part's for another's.

    A camera may say something of a part several times while its window is open, and the worst
    counts; so a part can be rejected at once, and passes at the end, or, if the rules say that each
    camera takes one image, as soon as all have spoken.

    Args:
        rules: The rules; the attribute may be replaced at any time.
        decide: Called with each decision.
        fault: Called with one line about each thing that should not have happened, and the header
            of the part that it happened to, or None.

    Attributes:
        rules: The rules.
        counts: Parts, decisions and oddities so far, by name.
        missing: Verdicts that did not come in time, by camera.
    """

    def __init__(
        self,
        rules: Rules,
        decide: Callable[[PartDecision], None],
        fault: Callable[[str, Any], None],
    ) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self._decide = decide
        self._fault = fault
        self._open: deque[_Part] = deque()
        self._decided: deque[_Part] = deque(maxlen=MAX_PENDING_PARTS)
        self._heard: dict[str, float] = {}
        self._silent: set[str] = set()
        self._stamps: dict[str, float] = {}
        self._still: set[str] = set()
        self._set_back: dict[str, float] = {}

    @property
    def waiting(self) -> int:
        """Parts that are not decided yet."""
        return len(self._open)

    def add_verdict(self, camera: str, stamp: float, header: Any, vote: Vote, now: float) -> None:
        """Take what a camera says of an image.

        Args:
            camera: One of the cameras of the rules.
            stamp: When the image was taken.
            header: Header of the image, for a part that it opens.
            vote: Verdict and score.
            now: Time of arrival.
        """
        # Before it counts: it may be too late for its part, and nobody has looked at the clock yet.
        self.check(now)
        self._heard[camera] = now
        self._silent.discard(camera)
        last = self._stamps.get(camera, -math.inf)
        self._stamps[camera] = stamp
        still = stamp == last
        self._note_stamps(camera, still)
        if stamp < last:
            self._set_back[camera] = now
            self._fault(
                f'the stamps of {camera} went back by {last - stamp:.3g} s: look at its clock', None
            )
        self._take(_Arrival(camera, stamp, header, vote, now, still))
        self.check(now)

    def check(self, now: float) -> None:
        """Decide on the parts whose time is up; to be called often."""
        while self._open and (outcome := self._outcome(self._open[0], now)):
            self._close(self._open.popleft(), outcome)
        for part in self._decided:
            if part.missing is None and self._is_overdue(part, now):
                self._note_missing(part)
        while (
            self._decided
            and now - self._decided[0].opened > LATE_VERDICT_MEMORY * self.rules.timeout
        ):
            self._decided.popleft()
        self._check_silence(now)

    @abstractmethod
    def _take(self, arrival: _Arrival) -> None:
        """Give a verdict to its part."""

    def _is_complete(self, part: _Part, now: float) -> bool:
        """Tell whether no further verdict of a part is to be expected."""
        rules = self.rules
        if rules.missing(part.votes):
            return False
        # Images at the end of the window have to be inspected as well.
        return rules.one_image or now - part.opened >= rules.window + rules.tolerance

    def _is_overdue(self, part: _Part, now: float) -> bool:
        return now - part.opened >= self.rules.timeout

    def _outcome(self, part: _Part, now: float) -> Outcome | None:
        if self._is_complete(part, now) or self._is_overdue(part, now):
            return self._conclusion(part)
        return self.rules.rejection(part.votes)

    def _conclusion(self, part: _Part) -> Outcome:
        outcome = self.rules.conclusion(part.votes)
        if self._still and outcome.decision == Decision.PASS:
            why = f'nobody knows which part it is: the stamps of {min(self._still)} stand still'
            return Outcome(Decision(self.rules.on_missing), why)
        return outcome

    def _open_part(self, header: Any, stamp: float, now: float) -> _Part:
        if len(self._open) == MAX_PENDING_PARTS:
            oldest = self._open.popleft()
            self._fault(
                f'decided early, since {MAX_PENDING_PARTS} later parts wait for it', oldest.header
            )
            self._close(oldest, self._conclusion(oldest))
        part = _Part(header, stamp, now)
        self._open.append(part)
        self.counts['parts'] += 1
        return part

    def _close(self, part: _Part, outcome: Outcome) -> None:
        part.decision = outcome.decision
        self.counts[outcome.decision] += 1
        self._decided.append(part)
        scores = [vote.score for vote in part.votes.values()]
        self._decide(PartDecision(part.header, *outcome, max(scores, default=math.nan)))

    def _note_missing(self, part: _Part) -> None:
        part.missing = self.rules.missing(part.votes)
        self.missing.update(part.missing)
        if part.missing:
            names = ' and '.join(part.missing)
            self._fault(
                f'no verdict of {names} within {self.rules.timeout:g} s: {part.decision}',
                part.header,
            )

    def _vote(self, part: _Part, camera: str, vote: Vote) -> None:
        known = part.votes.get(camera)
        if part.decision is None:
            part.votes[camera] = max(known or vote, vote, key=_severity)
        elif camera in (part.missing or ()):
            self.counts['late verdicts'] += 1
            self._fault(
                f'the verdict of {camera} ({vote.verdict}) came after the decision '
                f'({part.decision})',
                part.header,
            )
        elif part.decision == Decision.PASS and self.rules.is_against(vote.verdict):
            self.counts['late verdicts'] += 1
            self._fault(
                f'{camera} says {vote.verdict} of it, but it has passed: check the window',
                part.header,
            )
        else:
            part.votes.setdefault(camera, vote)

    def _note_stamps(self, source: str, still: bool) -> None:
        """Raise a fault about stamps that do not change, once until they do."""
        if not still:
            self._still.discard(source)
        elif source not in self._still:
            self._still.add(source)
            self._fault(
                f'the stamps of {source} stand still: nothing passes until they go on; look at its '
                'clock and its driver',
                None,
            )

    def _check_silence(self, now: float) -> None:
        for camera in self.rules.cameras:
            seconds = now - self._heard.setdefault(camera, now)
            if 0 < self.rules.silence < seconds and camera not in self._silent:
                self._silent.add(camera)
                self._fault(f'no verdict of {camera} for {self.rules.silence:g} s', None)


class TriggeredParts(Parts):
    """Parts that something announces: a light barrier, a PLC, the arm itself.

    A verdict is of the newest part whose trigger is not later than the image and not longer ago
    than `window`. Verdicts that overtake their trigger are kept until it comes.
    """

    def __init__(
        self,
        rules: Rules,
        decide: Callable[[PartDecision], None],
        fault: Callable[[str, Any], None],
    ) -> None:
        super().__init__(rules, decide, fault)
        self._early: deque[_Arrival] = deque()
        self._newest: _Part | None = None

    def add_trigger(self, stamp: float, header: Any, now: float) -> None:
        """Take the announcement of a part.

        Args:
            stamp: When the part was there.
            header: Given back with the decision.
            now: Time of arrival.
        """
        if self._is_bounce(stamp, now):
            self.counts['bounced triggers'] += 1
            return
        part = self._open_part(header, stamp, now)
        self._newest = part
        arrivals = list(self._early)
        self._early.clear()
        for arrival in arrivals:
            self._take(arrival)
        self.check(now)

    def check(self, now: float) -> None:
        """Decide on the parts whose time is up; to be called often."""
        while self._early and now - self._early[0].now > self.rules.timeout:
            self._forget_earliest()
        super().check(now)

    def _is_bounce(self, stamp: float, now: float) -> bool:
        """Tell whether a trigger repeats the one before; one that is far off only looks so."""
        newest, rules = self._newest, self.rules
        if newest is None:
            return False
        since, waited = stamp - newest.stamp, now - newest.opened
        if since == 0 and waited <= max(rules.debounce, rules.tolerance):
            return True
        self._note_stamps('triggers', since == 0)
        least = rules.window + rules.tolerance
        # No other part comes so soon; what comes later is one, whatever its clock says.
        if 0 < abs(since) <= rules.debounce and waited <= least + rules.debounce:
            return True
        if 0 < since <= least and waited <= rules.timeout + rules.debounce:
            self._fault(
                f'the next part follows within {since:.3g} s, faster than window and tolerance '
                f'({least:.3g} s) can tell apart: shorten them',
                newest.header,
            )
        return False

    def _take(self, arrival: _Arrival) -> None:
        if part := self._part_of(arrival.stamp):
            self._vote(part, arrival.camera, arrival.vote)
            return
        if len(self._early) == MAX_PENDING_PARTS:
            self._forget_earliest()
        self._early.append(arrival)

    def _forget_earliest(self) -> None:
        self._early.popleft()
        self.counts['verdicts without part'] += 1

    def _part_of(self, stamp: float) -> _Part | None:
        rules = self.rules
        for part in (*reversed(self._open), *reversed(self._decided)):
            if -rules.tolerance <= stamp - part.stamp <= rules.window:
                return part
        return None


class WindowedParts(Parts):
    """Parts that nothing announces: images taken at about the same time are of the same part.

    The first verdict opens a part. A part that no camera has seen does not exist here: silence must
    not mean pass to whoever listens. Verdicts of a camera whose clock has been set back are not of
    parts from before that.

    Within `debounce` after the window ok verdicts are ignored. Any other opens a part of its own,
    though it may be of the same one: a defect is never ignored. So does any verdict of a camera
    whose stamps stand still, once the part that it has spoken of is decided: it does not pass.
    """

    def _take(self, arrival: _Arrival) -> None:
        camera, stamp, header, vote, now, _ = arrival
        part = self._part_of(arrival)
        if part is None and self._is_bounce(stamp, vote):
            self.counts['bounced verdicts'] += 1
            return
        self._vote(part or self._open_part(header, stamp, now), camera, vote)

    def _part_of(self, arrival: _Arrival) -> _Part | None:
        camera, stamp = arrival.camera, arrival.stamp
        parts = [
            part
            # The newest first: where stamps stand still all are as near.
            for part in (*reversed(self._open), *reversed(self._decided))
            if abs(stamp - part.stamp) <= self.rules.window
            and part.opened >= self._set_back.get(camera, -math.inf)
            and not (arrival.still and part.decision and camera in part.votes)
        ]
        return min(parts, key=lambda part: abs(stamp - part.stamp), default=None)

    def _is_bounce(self, stamp: float, vote: Vote) -> bool:
        if self.rules.is_against(vote.verdict):
            return False
        return any(
            0 < stamp - part.stamp - self.rules.window <= self.rules.debounce
            for part in (*self._decided, *self._open)
        )


def _severity(vote: Vote) -> tuple[int, float]:
    return _SEVERITIES.index(vote.verdict), vote.score
