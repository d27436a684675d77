# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the verdicts of the cameras mean for a part."""

from collections.abc import Mapping
from dataclasses import dataclass
import enum
from typing import NamedTuple

from flow_anomaly_ros.scoring.thresholds import Verdict

UNCERTAIN_MEANINGS = ('reject', 'hold', 'pass')
MISSING_MEANINGS = ('reject', 'hold')


class Decision(enum.StrEnum):
    """What becomes of a part."""

    PASS = 'pass'
    REJECT = 'reject'
    HOLD = 'hold'


class Vote(NamedTuple):
    """What one camera says of a part: its verdict and image score."""

    verdict: Verdict
    score: float


class Outcome(NamedTuple):
    """A decision, and why in one line."""

    decision: Decision
    reason: str


@dataclass(frozen=True)
class Rules:
    """How verdicts become parts, and parts decisions.

    Times are in seconds. `window`, `tolerance` and `debounce` compare the stamps of triggers and
    images with each other; `timeout` and `silence` count from arrivals.

    Attributes:
        cameras: Names of the cameras that look at every part.
        least_defects: A part is rejected if this many of them say defect; 1 to all.
        uncertain: What an uncertain verdict means: `reject` counts it as a defect, `hold` holds a
            part that is not rejected anyway, `pass` counts it as ok.
        on_missing: What becomes of a part that lacks a verdict: `reject` or `hold`, never pass.
        timeout: Time for all verdicts of a part to come.
        window: Images this much later than the trigger, or this far from the first image, are of
            the same part.
        tolerance: Images may be stamped this much before their trigger, and verdicts come this much
            after their window.
        debounce: A trigger so soon after another is the same one; where there are no triggers, ok
            verdicts so soon after a part's window are of the same part.
        silence: A camera without any verdict for so long is a fault; 0 never is.
        one_image: Each camera takes one image of a part, so that it passes as soon as all have
            spoken; otherwise it passes at the end of its window, with the worst of their verdicts.

    Raises:
        ValueError: Rules that contradict each other; one line.
    """

    cameras: tuple[str, ...]
    least_defects: int = 1
    uncertain: str = 'reject'
    on_missing: str = 'reject'
    timeout: float = 1.0
    window: float = 0.5
    tolerance: float = 0.05
    debounce: float = 0.0
    silence: float = 0.0
    one_image: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.least_defects <= len(self.cameras):
            msg = (
                f'least_defects is {self.least_defects}: it must lie between 1 and the number of '
                f'cameras, {len(self.cameras)}'
            )
            raise ValueError(msg)
        for name, choices in (('uncertain', UNCERTAIN_MEANINGS), ('on_missing', MISSING_MEANINGS)):
            if getattr(self, name) not in choices:
                msg = f'{name} is {getattr(self, name)!r}: it must be one of {", ".join(choices)}'
                raise ValueError(msg)
        if self.timeout <= self.window + self.tolerance:
            msg = (
                f'timeout ({self.timeout:g} s) must be longer than window and tolerance together '
                f'({self.window + self.tolerance:g} s): images of a part may come that late'
            )
            raise ValueError(msg)

    def is_against(self, verdict: Verdict) -> bool:
        """Tell whether a verdict speaks against passing a part."""
        return verdict == Verdict.DEFECT or (
            verdict == Verdict.UNCERTAIN and self.uncertain != 'pass'
        )

    def rejection(self, votes: Mapping[str, Vote]) -> Outcome | None:
        """Reject a part as soon as no further verdict can change that; None if one still can."""
        defects = [
            camera
            for camera, vote in votes.items()
            if vote.verdict == Verdict.DEFECT
            or (vote.verdict == Verdict.UNCERTAIN and self.uncertain == 'reject')
        ]
        if len(defects) < self.least_defects:
            return None
        return Outcome(Decision.REJECT, _describe_votes(defects, votes))

    def conclusion(self, votes: Mapping[str, Vote]) -> Outcome:
        """Decide on the verdicts that are there; no others are going to count."""
        if rejection := self.rejection(votes):
            return rejection
        if missing := self.missing(votes):
            why = f'no verdict of {" and ".join(missing)} within {self.timeout:g} s'
            return Outcome(Decision(self.on_missing), why)
        uncertain = [name for name, vote in votes.items() if vote.verdict == Verdict.UNCERTAIN]
        if uncertain and self.uncertain == 'hold':
            return Outcome(Decision.HOLD, _describe_votes(uncertain, votes))
        return Outcome(Decision.PASS, _describe_votes(sorted(votes), votes))

    def missing(self, votes: Mapping[str, Vote]) -> tuple[str, ...]:
        """Cameras that have not said anything."""
        return tuple(camera for camera in self.cameras if camera not in votes)


def _describe_votes(cameras: list[str], votes: Mapping[str, Vote]) -> str:
    return ', '.join(f'{one}: {votes[one].verdict} ({votes[one].score:.3g})' for one in cameras)
