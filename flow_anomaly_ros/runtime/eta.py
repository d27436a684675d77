# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How long a training is going to take."""

from flow_anomaly_ros.runtime.cross_validation import fold_of


class EtaEstimator:
    """Estimates the time left of a training with its calibration.

    Each fold of the calibration takes about as long as the training itself, so that the first one
    tells how long the rest takes; before it is done nothing is known. A training without folds is
    estimated stage by stage, and so is what it takes longer than they did.
    """

    def __init__(self) -> None:
        self._fold: tuple[int, int] | None = None
        self._fold_started = 0.0
        self._fold_seconds = 0.0
        self._stage = ''
        self._stage_started = 0.0

    def after(self, stage: str, step: int, steps: int, now: float) -> float | None:
        """Seconds left after a step; None while that cannot be told.

        Args:
            stage: As progress callbacks are told it.
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
            # The first step is told when it is done.
            of_stage = (now - self._stage_started) * (steps - step) / (step - 1)
        if self._fold_seconds:
            later = fold[1] - fold[0] + 1 if fold else 0
            this = max(0.0, self._fold_seconds - (now - self._fold_started))
            # Those that calibrate leave out what scores do not need.
            return max(later * self._fold_seconds + this, of_stage or 0.0)
        return of_stage
