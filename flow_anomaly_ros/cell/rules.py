# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Rules that combine the verdicts of several cameras into one decision per part."""

from collections.abc import Mapping
from dataclasses import dataclass
import enum
from typing import NamedTuple

from flow_anomaly_ros.scoring.thresholds import Verdict

UNCERTAIN_POLICIES = ('reject', 'hold', 'pass')
MISSING_POLICIES = ('reject', 'hold')


class Decision(enum.StrEnum):
    """What happens to a part."""

    PASS = 'pass'
    REJECT = 'reject'
    HOLD = 'hold'


class Vote(NamedTuple):
    """The verdict of one camera on a part, with its image score."""

    verdict: Verdict
    score: float


class Outcome(NamedTuple):
    """A decision and its reason, one line."""

    decision: Decision
    reason: str


@dataclass(frozen=True)
class Rules:
    """How verdicts are grouped into parts, and how a part is decided.

    All times are in seconds. `window`, `tolerance` and `debounce` compare the timestamps of
    triggers and images; `timeout` and `silence` are measured between arrivals.

    Attributes:
        cameras: Names of the cameras that inspect every part.
        least_defects: Number of cameras that must report a defect for the part to be rejected;
            from 1 to the number of cameras.
        uncertain: Meaning of an uncertain verdict: `reject` counts it as a defect, `hold` holds
            the part unless it is rejected anyway, `pass` counts it as ok.
        on_missing: Decision on a part with a missing verdict: `reject` or `hold`, never `pass`.
        timeout: Maximum time from the arrival of a part's trigger or first verdict to the arrival
            of its last verdict.
        window: An image belongs to a part if its timestamp lies at most this long after the
            trigger or, without triggers, at most this far from the first image.
        tolerance: Images may be stamped this long before their trigger. Verdicts may arrive this
            long after the window has closed.
        debounce: A trigger this soon after the previous one is a bounce of it. Without triggers,
            ok verdicts this soon after the window still belong to the part.
        silence: A camera without a verdict for longer than this raises a fault; 0 disables the
            check.
        one_image: Whether each camera takes exactly one image of a part. If so, the part passes
            as soon as every camera has voted. Otherwise it passes when its window closes, on the
            worst vote of each camera.

    Raises:
        ValueError: A value is out of range, or two values contradict each other; one line.
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
                f'least_defects is {self.least_defects}: it must be between 1 and the number of '
                f'cameras, {len(self.cameras)}'
            )
            raise ValueError(msg)
        for name, choices in (('uncertain', UNCERTAIN_POLICIES), ('on_missing', MISSING_POLICIES)):
            if getattr(self, name) not in choices:
                msg = f'{name} is {getattr(self, name)!r}: it must be one of {", ".join(choices)}'
                raise ValueError(msg)
        if self.timeout <= self.window + self.tolerance:
            msg = (
                f'timeout ({self.timeout:g} s) must be longer than window + tolerance '
                f'({self.window + self.tolerance:g} s): until then verdicts on the part may arrive'
            )
            raise ValueError(msg)

    def blocks_pass(self, verdict: Verdict) -> bool:
        """Whether a verdict speaks against letting the part pass."""
        return verdict == Verdict.DEFECT or (
            verdict == Verdict.UNCERTAIN and self.uncertain != 'pass'
        )

    def rejection(self, votes: Mapping[str, Vote]) -> Outcome | None:
        """Reject a part once enough cameras report a defect.

        Further votes cannot revoke the rejection.

        Args:
            votes: The worst vote so far by camera.

        Returns:
            The rejection; None while too few cameras report a defect.
        """
        defects = [
            camera
            for camera, vote in votes.items()
            if vote.verdict == Verdict.DEFECT
            or (vote.verdict == Verdict.UNCERTAIN and self.uncertain == 'reject')
        ]
        if len(defects) < self.least_defects:
            return None
        return Outcome(Decision.REJECT, _describe_votes(defects, votes))

    def final_outcome(self, votes: Mapping[str, Vote]) -> Outcome:
        """Decide on a part that receives no further votes.

        Args:
            votes: The worst vote by camera.

        Returns:
            `reject` if enough cameras report a defect; else `on_missing` if a camera has not
            voted; else `hold` if a vote is uncertain and `uncertain` is `hold`; else `pass`.
        """
        if rejection := self.rejection(votes):
            return rejection
        if missing := self.missing_cameras(votes):
            why = f'no verdict from {" and ".join(missing)} within {self.timeout:g} s'
            return Outcome(Decision(self.on_missing), why)
        uncertain = [camera for camera, vote in votes.items() if vote.verdict == Verdict.UNCERTAIN]
        if uncertain and self.uncertain == 'hold':
            return Outcome(Decision.HOLD, _describe_votes(uncertain, votes))
        return Outcome(Decision.PASS, _describe_votes(sorted(votes), votes))

    def missing_cameras(self, votes: Mapping[str, Vote]) -> tuple[str, ...]:
        """Cameras that have not voted."""
        return tuple(camera for camera in self.cameras if camera not in votes)


def _describe_votes(cameras: list[str], votes: Mapping[str, Vote]) -> str:
    return ', '.join(
        f'{camera}: {votes[camera].verdict} ({votes[camera].score:.3g})' for camera in cameras
    )
