# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether the parts that pass still look like those that the thresholds were calibrated with."""

from collections.abc import Sequence

import numpy as np

# Fewer parts say nothing about a drift.
MIN_PARTS = 20
MIN_CALIBRATION_PARTS = 5
# From here on most parts that pass are closer to the threshold than to the calibration.
STRIKING_DRIFT = 2.0


def drift(scores: Sequence[float], calibration: Sequence[float]) -> float | None:
    """How far the scores of good parts have moved since calibration.

    Scores go up when a light ages, a lens gets dirty or the parts change, and down when the camera
    sees less; both want a look before parts are judged wrongly.

    Args:
        scores: Image scores of the latest parts called ok.
        calibration: Image scores of the good parts that calibrated the thresholds.

    Returns:
        The difference of their medians in standard deviations of `calibration`; None where there
        are too few of either, or calibration parts that do not differ.
    """
    if len(scores) < MIN_PARTS or len(calibration) < MIN_CALIBRATION_PARTS:
        return None
    # The deviation of equal numbers is not always 0.
    if np.ptp(calibration) == 0:
        return None
    spread = float(np.std(calibration, ddof=1))
    return float(np.median(scores) - np.median(calibration)) / spread
