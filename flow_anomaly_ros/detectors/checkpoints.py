# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where interrupted trainings resume."""

from collections.abc import Callable
from typing import Any, Protocol


class CheckpointStore(Protocol):
    """Keeps the newest state of every stage of a training."""

    def load(self, stage: str) -> dict[str, Any] | None:
        """Return the newest state of a stage; None if there is none."""

    def save(self, stage: str, state: Callable[[], dict[str, Any]], is_over: bool) -> None:
        """Keep the state of a stage, if it is time.

        Args:
            stage: Name of the stage.
            state: Makes the state, of tensors and plain values; called only when it is kept.
            is_over: Whether that was the stage's last step: its state is kept in any case.
        """


class NullCheckpointStore:
    """Keeps nothing: an interrupted training restarts."""

    def load(self, stage: str) -> dict[str, Any] | None:
        """See `CheckpointStore.load`."""
        return None

    def save(self, stage: str, state: Callable[[], dict[str, Any]], is_over: bool) -> None:
        """See `CheckpointStore.save`."""


NULL_CHECKPOINTS = NullCheckpointStore()
