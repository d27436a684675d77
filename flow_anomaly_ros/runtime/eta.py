# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Estimates the remaining time of a training."""

from flow_anomaly_ros.runtime.cross_validation import fold_of


class EtaEstimator:
    """Estimates the remaining time of a training with its calibration.

    Each fold of the calibration takes about as long as the training itself, so the first fold
    predicts the rest; before it is done the time is unknown. A training without folds is estimated
    stage by stage, and so is the time by which it exceeds a fold.
    """

    def __init__(self) -> None:
        self._fold: tuple[int, int] | None = None
        self._fold_started = 0.0
        self._fold_seconds = 0.0
        self._stage = ''
        self._stage_started = 0.0

    def after(self, stage: str, step: int, steps: int, now: float) -> float | None:
        """Return the remaining seconds after a step; None while unknown.

        Args:
            stage: Name of the stage, as progress callbacks get it.
            step: Steps done in this stage.
            steps: Steps of this stage.
            now: Time in s.
        """
        if not self._stage:
            self._fold, self._fold_started = fold_of(stage), now
        if stage != self._stage:
            self._stage, self._stage_started = stage, now
        fold = fold_of(stage)
        if fold != self._fold:
            self._fold_seconds = now - self._fold_started
            self._fold, self._fold_started = fold, now
        of_stage = None
        if not fold and step > 1:
            # The first step is reported when it is done.
            of_stage = (now - self._stage_started) * (steps - step) / (step - 1)
        if self._fold_seconds:
            later = fold[1] - fold[0] + 1 if fold else 0
            this = max(0.0, self._fold_seconds - (now - self._fold_started))
            # Folds leave out what scores do not need, so the last training takes longer.
            return max(later * self._fold_seconds + this, of_stage or 0.0)
        return of_stage
