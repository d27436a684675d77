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

    def load(self, device: str, await_missing: bool = False) -> list[str]:
        """Load and warm up what the cameras' parameters name, then hand it to all of them at once.

        A file that is loaded already is not loaded again. Nothing changes if anything fails.

        Args:
            device: Device name, see `select_device`.
            await_missing: A camera without a model may stay so if its file is not there.

        Returns:
            The cameras whose model has changed, with the file.

        Raises:
            ValueError: A file or device that cannot be used, or parameters that contradict it.
        """
        stamps = {}
        for camera in self._cameras:
            path = camera.wanted_model
            is_awaited = await_missing and camera.engine is None
            if path and (path.exists() or not is_awaited):
                stamps[camera.name] = _stamp(path, device)
        engines = {
            self._stamps[camera.name]: camera.engine
            for camera in self._cameras
            if camera.engine is not None
        }
        for wanted in stamps.values():
            if wanted not in engines:
                engines[wanted] = Engine.load(wanted.path, device)
                engines[wanted].warm_up()
        with self._inspecting:
            changed = {
                camera: stamps.get(camera.name)
                for camera in self._cameras
                if stamps.get(camera.name) != self._stamps.get(camera.name)
            }
            # All of them before the first change: one that fails leaves everything as it is.
            criteria = {
                camera: camera.criteria_for(engines[stamp])
                for camera, stamp in changed.items()
                if stamp
            }
            for camera, stamp in changed.items():
                camera.engine = engines[stamp] if stamp else None
                if stamp:
                    camera.criteria = criteria[camera]
                    camera.model_file = stamp.path
            self._stamps = stamps
            for loaded, engine in engines.items():
                if loaded not in stamps.values():
                    engine.close()
        return [
            f'{camera.name}: {stamp.path if stamp else "none"}' for camera, stamp in changed.items()
        ]

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
