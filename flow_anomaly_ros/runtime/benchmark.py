# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Profiles an inspection, stage by stage."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import functools
import os
from pathlib import Path
import time
from typing import Any

from flow_anomaly_ros.detectors.base import Detector
from flow_anomaly_ros.runtime.backends.pytorch import PyTorchBackend
from flow_anomaly_ros.runtime.engine import Engine, Inspection
from flow_anomaly_ros.runtime.tiling import untiled
import numpy as np
import torch


def time_inspection(
    engine: Engine, images: Sequence[np.ndarray]
) -> tuple[list[Inspection], dict[str, float]]:
    """Inspect a batch once.

    Args:
        engine: The engine.
        images: The batch.

    Returns:
        The inspections, and milliseconds of the batch by stage: `preprocess`; those of
        `Detector.stages` and `score`, the rest of what the detector does, or `detect` where a
        backend does not show them; `regions`; and `total`.
    """
    started = time.perf_counter()
    with profile_stages(engine) as inner:
        inspections = engine.inspect(images)
    total = 1e3 * (time.perf_counter() - started)
    shared = inspections[0].timings
    preprocess = inner.pop('preprocess', shared['preprocess'])
    stages = {'preprocess': preprocess, **inner}
    if inner:
        stages['score'] = shared['detect'] - sum(inner.values())
    else:
        stages['detect'] = shared['detect']
    stages['regions'] = sum(inspection.timings['regions'] for inspection in inspections)
    return inspections, {**stages, 'total': total}


@contextmanager
def profile_stages(
    engine: Engine, clock: Callable[[], float] | None = None
) -> Iterator[dict[str, float]]:
    """Time `preprocess` and the stages of a detector in PyTorch while the context is open.

    On a GPU, the device is synchronised before and after each stage.

    Args:
        engine: The engine.
        clock: Returns the time in ms; None: wall-clock time, with the GPU synchronised.

    Yields:
        Milliseconds by stage, each without the stages nested in it; empty for other backends and
        for compiled detectors.
    """
    spent: dict[str, float] = defaultdict(float)
    backend = engine.backend
    if not isinstance(backend, PyTorchBackend) or backend.is_compiled:
        yield spent
        return
    detector = untiled(backend.detector)
    # Time spent in nested stages, one entry per open stage.
    within = [0.0]

    def now() -> float:
        if backend.device.type == 'cuda':
            torch.cuda.synchronize(backend.device)
        return 1e3 * time.perf_counter()

    clock = clock or now

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            started = clock()
            within.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                elapsed, inner = clock() - started, within.pop()
                spent[stage] += elapsed - inner
                within[-1] += elapsed

        return call

    places: list[tuple[str, object, str]] = [('preprocess', backend, 'prepare')]
    places += [
        (stage, *_find(detector, path))
        for stage, all_of in detector.stages.items()
        for path in all_of
    ]
    for stage, owner, name in places:
        setattr(owner, name, timed(stage, getattr(owner, name)))
    try:
        yield spent
    finally:
        for _, owner, name in places:
            # Deleting the attribute restores the method of the class.
            delattr(owner, name)


def _find(detector: Detector, path: str) -> tuple[object, str]:
    """Return the object that has a method, and the method's name."""
    parents, _, name = path.rpartition('.')
    return (detector.get_submodule(parents) if parents else detector), name


def memory_mib() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20
