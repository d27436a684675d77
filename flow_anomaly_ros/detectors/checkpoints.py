# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where trainings that are interrupted go on."""

from collections.abc import Callable
from typing import Any


class CheckpointStore:
    """Keeps nothing: a training that is interrupted begins anew."""

    def load(self, stage: str) -> dict[str, Any] | None:
        """Return the newest state of a stage; None if there is none."""
        return None

    def save(self, stage: str, state: Callable[[], dict[str, Any]], is_over: bool) -> None:
        """Keep the state of a stage, if it is time.

        Args:
            stage: Name of the stage.
            state: Makes the state, of tensors and plain values; called when it is kept.
            is_over: Whether that was the stage's last step: its state is kept in any case.
        """


NULL_CHECKPOINTS = CheckpointStore()
