# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts that are recognised by time: images with nearby timestamps show the same part."""

import math

from flow_anomaly_ros.cell.parts import CameraVerdict, Part, Parts
from flow_anomaly_ros.cell.rules import Vote


class WindowedParts(Parts):
    """Decides on parts without triggers, by the timestamps of their images.

    The first verdict opens a part, and images within `rules.window` of its timestamp belong to it.
    A part that no camera has seen gets no decision, so a missing decision does not mean pass. After
    a camera's clock has jumped back, its verdicts are not assigned to parts from before the jump.

    For `rules.debounce` after the window, ok verdicts are ignored. Any other verdict opens a new
    part, even if it may show the same one: a defect is never ignored. While the timestamps of a
    camera do not advance, its next verdict after a decision opens a new part, which does not pass.
    """

    def _assign(self, verdict: CameraVerdict) -> None:
        part = self._part_of(verdict)
        if part is None:
            if self._is_bounce(verdict.stamp, verdict.vote):
                self.counts['bounced verdicts'] += 1
                return
            part = self._open_part(verdict.header, verdict.stamp, verdict.arrived_at)
        self._add_vote(part, verdict.camera, verdict.vote)

    def _part_of(self, verdict: CameraVerdict) -> Part | None:
        camera, stamp = verdict.camera, verdict.stamp
        candidates = [
            part
            # Newest first: with repeated timestamps all parts are equally near.
            for part in (*reversed(self._pending), *reversed(self._decided))
            if abs(stamp - part.stamp) <= self.rules.window
            and part.opened_at >= self._clock_jumps.get(camera, -math.inf)
            and not (verdict.is_stamp_repeated and part.decision and camera in part.votes)
        ]
        return min(candidates, key=lambda part: abs(stamp - part.stamp), default=None)

    def _is_bounce(self, stamp: float, vote: Vote) -> bool:
        """Whether a verdict is ignored as a late image of a part whose window has closed."""
        if self.rules.blocks_pass(vote.verdict):
            return False
        return any(
            0 < stamp - part.stamp - self.rules.window <= self.rules.debounce
            for part in (*self._decided, *self._pending)
        )
