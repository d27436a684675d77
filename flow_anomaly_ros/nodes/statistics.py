# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Counters and latencies of one camera, for diagnostics."""

from collections import Counter, deque
from dataclasses import dataclass
import threading
import time

from flow_anomaly_ros.runtime.engine import Inspection
from flow_anomaly_ros.scoring.thresholds import Verdict
import numpy as np

# Number of frames whose latencies and scores are kept.
WINDOW = 200
# Seconds over which the rate is averaged.
RATE_PERIOD_S = 10.0


@dataclass(frozen=True)
class Snapshot:
    """The statistics at one moment.

    Attributes:
        inspected: Frames inspected.
        failed: Frames that could not be inspected.
        last_error: Why the last frame could not be inspected; empty if it could.
        verdicts: Number of each verdict.
        rate: Frames inspected per second in the last RATE_PERIOD_S.
        part_class: Name of the class that the last part was assigned to; empty if it has none.
        ok_scores: Image scores of the latest frames with verdict ok since the class changed.
        latencies: Median and 95th percentile in ms by stage.
    """

    inspected: int
    failed: int
    last_error: str
    verdicts: dict[str, int]
    rate: float
    part_class: str
    ok_scores: tuple[float, ...]
    latencies: dict[str, tuple[float, float]]


class CameraStatistics:
    """Counts the frames of one camera since activation.

    The inspecting thread writes, the thread of the node reads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inspected = 0
        self._failed = 0
        self._last_error = ''
        self._verdicts: Counter[str] = Counter()
        self._timings: dict[str, deque[float]] = {}
        self._part_class = ''
        self._ok_scores: deque[float] = deque(maxlen=WINDOW)
        self._started = time.monotonic()
        self._recent: deque[float] = deque()

    def add(self, inspection: Inspection, timings: dict[str, float]) -> None:
        """Count one inspection; timings in ms by stage."""
        now = time.monotonic()
        with self._lock:
            self._inspected += 1
            self._recent.append(now)
            while self._recent[0] < now - RATE_PERIOD_S:
                self._recent.popleft()
            if inspection.part_class != self._part_class:
                # Drift is measured within one class.
                self._part_class = inspection.part_class
                self._ok_scores.clear()
            if inspection.verdict == Verdict.OK:
                self._ok_scores.append(inspection.image_score)
            self._last_error = ''
            self._verdicts[str(inspection.verdict)] += 1
            for stage, value in timings.items():
                self._timings.setdefault(stage, deque(maxlen=WINDOW)).append(value)

    def add_failure(self, error: str) -> bool:
        """Count a frame that could not be inspected.

        Returns:
            Whether the error differs from that of the previous frame.
        """
        with self._lock:
            self._failed += 1
            is_new = error != self._last_error
            self._last_error = error
            return is_new

    def snapshot(self) -> Snapshot:
        """Return the statistics as they are now."""
        with self._lock:
            timings = {stage: list(values) for stage, values in self._timings.items()}
            inspected, failed, last_error = self._inspected, self._failed, self._last_error
            verdicts, ok_scores = dict(self._verdicts), tuple(self._ok_scores)
            part_class = self._part_class
            now = time.monotonic()
            recent = sum(moment > now - RATE_PERIOD_S for moment in self._recent)
        latencies = {}
        for stage, values in timings.items():
            median, high = np.percentile(values, (50, 95)).tolist()
            latencies[stage] = (median, high)
        rate = recent / min(RATE_PERIOD_S, max(now - self._started, 1.0))
        return Snapshot(
            inspected, failed, last_error, verdicts, rate, part_class, ok_scores, latencies
        )
