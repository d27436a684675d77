# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a training in a folder, one file per stage."""

from collections.abc import Callable
import copy
from dataclasses import dataclass
import hashlib
from pathlib import Path
import time
from typing import Any

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.data.atomic import atomic_write
from flow_anomaly_ros.detectors.checkpoints import CheckpointStore
from flow_anomaly_ros.errors import error_summary
import torch

# Seconds between two checkpoints of a stage.
SAVE_PERIOD_S = 60.0
SUFFIX = '.checkpoint'


@dataclass
class _Times:
    """Seconds on the monotonic clock, and of earlier runs.

    Attributes:
        begun: When this run began.
        saved: When a state was last saved.
        before: Duration of the runs before this one.
    """

    begun: float
    saved: float
    before: float = 0.0


class FolderCheckpointStore(CheckpointStore):
    """Saves the newest state of every stage in a folder.

    Under torchrun, rank 0 writes and all processes read.

    Args:
        folder: Folder of the files; created with the first of them.
        training: Text that identifies the training: checkpoints of another one are refused.
    """

    def __init__(self, folder: Path, training: str) -> None:
        self._folder = folder
        self._training = hashlib.sha256(training.encode()).hexdigest()
        self._prefix = ''
        self._files: set[Path] = set()
        now = time.monotonic()
        self._times = _Times(now, now)

    @property
    def seconds(self) -> float:
        """Duration of the training before it was last interrupted, as far as it was saved."""
        return self._times.before

    def load(self, stage: str) -> dict[str, Any] | None:
        """Return the newest state of a stage; see `CheckpointStore.load`.

        Raises:
            ValueError: The file belongs to another training or is damaged, or the processes see
                different files; one line.
        """
        path = self._path(stage)
        content = None
        if path.is_file():
            try:
                content = torch.load(path, map_location='cpu', weights_only=True)
                training = content['training']
            except Exception as error:
                why = error_summary(error, 200)
                msg = f'{path} is not a checkpoint or is damaged ({why}): delete it'
                raise ValueError(msg) from error
            if training != self._training:
                msg = (
                    f'{path} belongs to a different training run (images, options or library '
                    'versions differ): choose another folder for checkpoints, or delete this one'
                )
                raise ValueError(msg)
        self._files.add(path)
        data_parallel.require_same(str(content and content['number']), f'checkpoints of {stage}')
        if content is None:
            return None
        self._times.before = max(self._times.before, content['seconds'])
        return content['state']

    def save(self, stage: str, state: Callable[[], dict[str, Any]], is_over: bool) -> None:
        """Save the state of a stage if a minute has passed; see `CheckpointStore.save`."""
        now, times = time.monotonic(), self._times
        if data_parallel.rank() or not (is_over or now >= times.saved + SAVE_PERIOD_S):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        content = {
            'training': self._training,
            'number': now,
            'seconds': times.before + now - times.begun,
            'state': state(),
        }
        path = self._path(stage)
        with atomic_write(path) as temporary:
            torch.save(content, temporary)
        self._files.add(path)
        times.saved = now

    def clear(self) -> None:
        """Delete the checkpoints of this training, and the folder if it is then empty."""
        for path in self._files:
            path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def of(self, prefix: str) -> 'FolderCheckpointStore':
        """Return the store of stages whose names have a prefix."""
        other = copy.copy(self)
        other._prefix = prefix
        return other

    def _path(self, stage: str) -> Path:
        name = f'{self._prefix}{stage}'.replace(' ', '_').replace('/', '_of_')
        return self._folder / f'{name}{SUFFIX}'
