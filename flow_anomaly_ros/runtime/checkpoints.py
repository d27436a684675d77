# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""CheckpointStore of a training in a folder, a file for each of its stages."""

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

# Seconds between two states of a stage that are kept.
SAVE_PERIOD_S = 60.0
SUFFIX = '.checkpoint'


@dataclass
class _Times:
    """Seconds: of the clock at the beginning and when a state was last kept, and before."""

    begun: float
    kept: float
    before: float = 0.0


class FolderCheckpointStore(CheckpointStore):
    """Keeps the newest state of every stage in a folder.

    Under torchrun the first process writes and all of them read.

    Args:
        folder: Where the files are; made with the first of them.
        training: What makes this training differ from others, as text: checkpoints of another one
            are refused.
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
        """What the training took before it was last interrupted, as far as that was kept."""
        return self._times.before

    def load(self, stage: str) -> dict[str, Any] | None:
        """Return the newest state of a stage; see `CheckpointStore.load`.

        Raises:
            ValueError: The file is of another training or damaged, or the processes do not see the
                same; one line.
        """
        path = self._path(stage)
        content = None
        if path.is_file():
            try:
                content = torch.load(path, map_location='cpu', weights_only=True)
                training = content['training']
            except Exception as error:
                why = error_summary(error, 200)
                msg = f'{path} is no checkpoint or is damaged ({why}): delete it'
                raise ValueError(msg) from error
            if training != self._training:
                msg = (
                    f'{path} is of another training, with other images, options or libraries: '
                    'give another folder for checkpoints, or delete this one'
                )
                raise ValueError(msg)
        self._files.add(path)
        data_parallel.require_same(str(content and content['number']), f'checkpoints of {stage}')
        if content is None:
            return None
        self._times.before = max(self._times.before, content['seconds'])
        return content['state']

    def save(self, stage: str, state: Callable[[], dict[str, Any]], is_over: bool) -> None:
        """Write the state of a stage if a minute has passed; see `CheckpointStore.save`."""
        now, times = time.monotonic(), self._times
        if data_parallel.rank() or not (is_over or now >= times.kept + SAVE_PERIOD_S):
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
        times.kept = now

    def clear(self) -> None:
        """Delete those of this training, and the folder if there is nothing else in it."""
        for path in self._files:
            path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def of(self, prefix: str) -> 'FolderCheckpointStore':
        """Return those of stages whose names have something in front."""
        other = copy.copy(self)
        other._prefix = prefix
        return other

    def _path(self, stage: str) -> Path:
        name = f'{self._prefix}{stage}'.replace(' ', '_').replace('/', '_of_')
        return self._folder / f'{name}{SUFFIX}'
