# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The models of all cameras, and their change while images are inspected."""

from collections.abc import Sequence
from pathlib import Path
import threading
from typing import cast, NamedTuple

from flow_anomaly_ros.errors import error_summary
from flow_anomaly_ros.nodes.camera import Camera
from flow_anomaly_ros.runtime.engine import Engine


class RuntimeOptions(NamedTuple):
    """How models are run, see `Engine.load`."""

    device: str = 'auto'
    precision: str = 'float32'
    compiled: bool = False


class _ModelKey(NamedTuple):
    """A state of a model file and how it is run; another one means another engine."""

    path: Path
    execution: RuntimeOptions
    inode: int
    modified: int


class LoadResult(NamedTuple):
    """What came of loading models.

    Attributes:
        news: What is new about a camera: the file of its new model, or that its file is gone; a
            line each.
        problems: What is wrong with the files, or with the parameters that contradict them; a line
            each.
        waiting: Cameras whose model files are not there yet, and may be; a line each.
    """

    news: list[str]
    problems: list[str]
    waiting: list[str]


class ModelManager:
    """Engines by model file; cameras with the same file share one, and so a batch.

    Args:
        cameras: The cameras that get the engines.
        inspecting: Held by whoever inspects; models change while nobody does.
    """

    def __init__(self, cameras: Sequence[Camera], inspecting: threading.Lock) -> None:
        self._cameras = cameras
        self._inspecting = inspecting
        self._stamps: dict[str, _ModelKey] = {}
        # The files as the parameters named them.
        self._names: dict[str, Path] = {}

    def load(
        self, cameras: Sequence[Camera], execution: RuntimeOptions, await_missing: bool = False
    ) -> LoadResult:
        """Load and warm up what cameras' parameters name, then change over between two frames.

        A file that is loaded already is not loaded again. A camera whose file cannot be used keeps
        what it has; so does one whose file is gone since it was loaded.

        Args:
            cameras: All cameras, or some.
            execution: How the models are run.
            await_missing: A camera without a model may stay so if its file is not there.
        """
        engines = {
            self._stamps[camera.name]: camera.engine
            for camera in self._cameras
            if camera.engine is not None
        }
        wanted = {}
        for camera in cameras:
            camera.model_problem = ''
            try:
                wanted[camera] = self._load_wanted(camera, engines, execution, await_missing)
            except Exception as error:
                # Whatever is wrong with a file, the other cameras get theirs.
                camera.model_problem = error_summary(error)
        news = []
        with self._inspecting:
            for camera, stamp in wanted.items():
                if stamp == self._stamps.get(camera.name):
                    if stamp and not stamp.path.exists():
                        news.append(f'{camera.name}: {stamp.path} is gone, its model stays')
                    continue
                try:
                    self._hand_over(camera, engines, stamp)
                    news.append(f'{camera.name}: {stamp.path if stamp else "none"}')
                except Exception as error:
                    camera.model_problem = error_summary(error)
            for loaded, engine in engines.items():
                if loaded not in self._stamps.values():
                    engine.close()
        waiting = [
            f'{camera.name}: no model file at {camera.wanted_model} yet'
            for camera, stamp in wanted.items()
            if stamp is None and camera.wanted_model
        ]
        problems = [
            f'camera {camera.name}: {camera.model_problem}'
            for camera in cameras
            if camera.model_problem
        ]
        return LoadResult(news, problems, waiting)

    def _load_wanted(
        self,
        camera: Camera,
        engines: dict[_ModelKey, Engine],
        execution: RuntimeOptions,
        await_missing: bool,
    ) -> _ModelKey | None:
        """Add the engine that a camera wants to those there are; None if it wants none."""
        path = camera.wanted_model
        if path is None:
            return None
        if not path.exists():
            if path == self._names.get(camera.name):
                return self._stamps[camera.name]
            if await_missing and not camera.engine:
                return None
        stamp = _stamp(path, execution)
        if stamp not in engines:
            engines[stamp] = Engine.load(path, *execution)
        return stamp

    def _hand_over(
        self, camera: Camera, engines: dict[_ModelKey, Engine], stamp: _ModelKey | None
    ) -> None:
        """Give a camera another engine; parameters that contradict it leave all as it is."""
        if stamp is None:
            camera.engine = None
            del self._stamps[camera.name], self._names[camera.name]
            return
        camera.criteria = camera.criteria_for(engines[stamp])
        camera.engine, camera.model_file = engines[stamp], stamp.path
        self._stamps[camera.name] = stamp
        # There is a stamp because there was a file.
        self._names[camera.name] = cast(Path, camera.wanted_model)

    def release(self) -> None:
        """Free all models."""
        with self._inspecting:
            for engine in {camera.engine for camera in self._cameras if camera.engine}:
                engine.close()
            for camera in self._cameras:
                camera.engine = None
            self._stamps, self._names = {}, {}


def _stamp(path: Path, execution: RuntimeOptions) -> _ModelKey:
    try:
        status = path.stat()
    except OSError:
        # LoadResult it says what is wrong.
        return _ModelKey(path, execution, 0, 0)
    return _ModelKey(path.resolve(), execution, status.st_ino, status.st_mtime_ns)
