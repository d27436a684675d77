# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Loads the models of all cameras and changes them while images are inspected."""

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
    """One state of a model file and how it is run; any change requires another engine."""

    path: Path
    options: RuntimeOptions
    inode: int
    modified: int


class LoadResult(NamedTuple):
    """Result of loading models; each entry is one line that names the camera.

    Attributes:
        news: Models that were loaded or removed, and files that no longer exist.
        problems: Files that could not be loaded, and parameters that contradict the model.
        waiting: Cameras whose model files do not exist yet.
    """

    news: list[str]
    problems: list[str]
    waiting: list[str]


class ModelManager:
    """Keeps one engine per model file; cameras with the same file share it, and so a batch.

    Args:
        cameras: The cameras that get the engines.
        inspection_lock: Lock that is held while frames are inspected; models change only while the
            manager holds it.
    """

    def __init__(self, cameras: Sequence[Camera], inspection_lock: threading.Lock) -> None:
        self._cameras = cameras
        self._inspection_lock = inspection_lock
        # By camera name: the loaded state of the file, and the path that the parameter named.
        self._keys: dict[str, _ModelKey] = {}
        self._paths: dict[str, Path] = {}

    def load(
        self, cameras: Sequence[Camera], options: RuntimeOptions, await_missing: bool = False
    ) -> LoadResult:
        """Load and warm up the requested models, then swap them in between two frames.

        A file that is already loaded is not loaded again. A camera whose file cannot be loaded
        keeps its present model, and so does a camera whose file was deleted after loading.

        Args:
            cameras: The cameras to load models for.
            options: How the models are run.
            await_missing: A camera without a model may stay so while its file does not exist.
        """
        engines = {
            self._keys[camera.name]: camera.engine
            for camera in self._cameras
            if camera.engine is not None
        }
        requested = {}
        for camera in cameras:
            camera.report_model_problem('')
            try:
                requested[camera] = self._load_requested(camera, engines, options, await_missing)
            except Exception as error:
                # A bad file of one camera must not keep the others from their models.
                camera.report_model_problem(error_summary(error))
        news = []
        with self._inspection_lock:
            for camera, key in requested.items():
                if key == self._keys.get(camera.name):
                    if key and not key.path.exists():
                        news.append(
                            f'{camera.name}: {key.path} no longer exists; its model is kept'
                        )
                    continue
                try:
                    self._swap(camera, engines, key)
                    change = (
                        f'loaded {key.path}'
                        if key
                        else 'unloaded its model, because the parameter is empty'
                    )
                    news.append(f'{camera.name}: {change}')
                except Exception as error:
                    camera.report_model_problem(error_summary(error))
            for key, engine in engines.items():
                if key not in self._keys.values():
                    engine.close()
        waiting = [
            f'{camera.name}: no model file at {camera.requested_model} yet'
            for camera, key in requested.items()
            if key is None and camera.requested_model
        ]
        problems = [
            f'camera {camera.name}: {camera.model_problem}'
            for camera in cameras
            if camera.model_problem
        ]
        return LoadResult(news, problems, waiting)

    def _load_requested(
        self,
        camera: Camera,
        engines: dict[_ModelKey, Engine],
        options: RuntimeOptions,
        await_missing: bool,
    ) -> _ModelKey | None:
        """Add the engine that a camera requests to `engines`; None if it requests none."""
        path = camera.requested_model
        if path is None:
            return None
        if not path.exists():
            if path == self._paths.get(camera.name):
                return self._keys[camera.name]
            if await_missing and not camera.engine:
                return None
        key = _model_key(path, options)
        if key not in engines:
            engines[key] = Engine.load(path, *options)
        return key

    def _swap(
        self, camera: Camera, engines: dict[_ModelKey, Engine], key: _ModelKey | None
    ) -> None:
        """Give a camera another engine; parameters that contradict it change nothing."""
        if key is None:
            camera.remove_model()
            del self._keys[camera.name], self._paths[camera.name]
            return
        camera.use_model(engines[key], key.path)
        self._keys[camera.name] = key
        # There is a key because the camera requested a file.
        self._paths[camera.name] = cast(Path, camera.requested_model)

    def release(self) -> None:
        """Free all models."""
        with self._inspection_lock:
            for engine in {camera.engine for camera in self._cameras if camera.engine}:
                engine.close()
            for camera in self._cameras:
                camera.remove_model()
            self._keys, self._paths = {}, {}


def _model_key(path: Path, options: RuntimeOptions) -> _ModelKey:
    try:
        status = path.stat()
    except OSError:
        # Loading the file reports what is wrong with it.
        return _ModelKey(path, options, 0, 0)
    return _ModelKey(path.resolve(), options, status.st_ino, status.st_mtime_ns)
