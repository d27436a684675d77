# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Drift of image scores of good parts since calibration."""

from collections.abc import Sequence

import numpy as np

# With fewer parts the estimate is unreliable.
MIN_PARTS = 20
MIN_CALIBRATION_PARTS = 5
# Drift, in standard deviations, from which a warning is due: most parts that pass are then closer
# to the threshold than to the calibration scores.
MAX_DRIFT = 2.0


def drift(scores: Sequence[float], calibration: Sequence[float]) -> float | None:
    """Measure how far the scores of good parts have drifted since calibration.

    Scores rise when a lamp ages, a lens gets dirty or the parts change; they fall when the image
    loses contrast or focus. Either should be checked before verdicts become wrong.

    Args:
        scores: Image scores of the latest parts with verdict ok.
        calibration: Image scores of the good parts that the thresholds were calibrated on.

    Returns:
        Difference of the medians in standard deviations of `calibration`. None if there are too few
        scores of either kind, or if all calibration scores are equal.
    """
    if len(scores) < MIN_PARTS or len(calibration) < MIN_CALIBRATION_PARTS:
        return None
    # Rounding can make the standard deviation of equal numbers nonzero.
    if np.ptp(calibration) == 0:
        return None
    spread = float(np.std(calibration, ddof=1))
    return float(np.median(scores) - np.median(calibration)) / spread
