# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Counters and latencies of one camera, for diagnostics."""

from collections import deque

import numpy as np

# Latencies of this many frames are kept.
WINDOW = 200


class CameraStatistics:
    """What happened to the frames of one camera since activation."""

    def __init__(self) -> None:
        self.inspected = 0
        self.failed = 0
        self.last_error = ''
        self.verdicts: dict[str, int] = {}
        self._timings: dict[str, deque[float]] = {}

    def add(self, verdict: str, timings: dict[str, float]) -> None:
        """Count one inspection; timings in ms by stage."""
        self.inspected += 1
        self.last_error = ''
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        for stage, value in timings.items():
            self._timings.setdefault(stage, deque(maxlen=WINDOW)).append(value)

    def add_failure(self, error: str) -> None:
        """Count a frame that could not be inspected."""
        self.failed += 1
        self.last_error = error

    def percentiles(self) -> dict[str, tuple[float, float]]:
        """Return the median and 95th percentile in ms by stage."""
        return {
            stage: tuple(np.percentile(list(values), (50, 95)).tolist())
            for stage, values in self._timings.items()
        }
