# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The models of all cameras, and their change while images are inspected."""

from collections.abc import Sequence
from pathlib import Path
import threading
from typing import NamedTuple

from flow_anomaly_ros.nodes.camera import Camera
from flow_anomaly_ros.runtime.engine import Engine


class _Stamp(NamedTuple):
    """A state of a model file on a device; another one means another engine."""

    path: Path
    device: str
    inode: int
    modified: int


class Models:
    """Engines by model file; cameras with the same file share one, and so a batch.

    Args:
        cameras: The cameras that get the engines.
        inspecting: Held by whoever inspects; models change while nobody does.
    """

    def __init__(self, cameras: Sequence[Camera], inspecting: threading.Lock) -> None:
        self._cameras = cameras
        self._inspecting = inspecting
        self._stamps: dict[str, _Stamp] = {}

    def load(self, device: str) -> list[str]:
        """Load and warm up what the cameras' parameters name, then hand it to all of them at once.

        A file that is loaded already is not loaded again. Nothing changes if anything fails.

        Args:
            device: Device name, see `select_device`.

        Returns:
            The cameras whose model has changed, with the file.

        Raises:
            ValueError: A file or device that cannot be used, or parameters that contradict it.
        """
        stamps = {
            camera.name: _stamp(camera.wanted_model, device)
            for camera in self._cameras
            if camera.wanted_model
        }
        engines = {
            self._stamps[camera.name]: camera.engine
            for camera in self._cameras
            if camera.engine is not None
        }
        for stamp in stamps.values():
            if stamp not in engines:
                engines[stamp] = Engine.load(stamp.path, device)
                engines[stamp].warm_up()
        with self._inspecting:
            criteria = {
                camera.name: camera.criteria_for(engines[stamps[camera.name]])
                for camera in self._cameras
                if camera.name in stamps
            }
            changed = []
            for camera in self._cameras:
                new = stamps.get(camera.name)
                if new == self._stamps.get(camera.name):
                    continue
                changed.append(f'{camera.name}: {new.path if new else "none"}')
                camera.engine = engines[new] if new else None
                if new:
                    camera.criteria = criteria[camera.name]
                    camera.model_file = new.path
            self._stamps = stamps
            for stamp, engine in engines.items():
                if stamp not in stamps.values():
                    engine.close()
        return changed

    def release(self) -> None:
        """Free all models."""
        with self._inspecting:
            for engine in {camera.engine for camera in self._cameras if camera.engine}:
                engine.close()
            for camera in self._cameras:
                camera.engine = None
            self._stamps = {}


def _stamp(path: Path, device: str) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        # Loading it says what is wrong.
        return _Stamp(path, device, 0, 0)
    return _Stamp(path.resolve(), device, status.st_ino, status.st_mtime_ns)
