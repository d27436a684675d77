# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A thread for what has to be called in one and the same."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
import threading
from typing import Any

_Call = tuple[Future, Callable[..., Any], tuple[Any, ...]]


class SingleThreadExecutor:
    """Calls functions one after the other; unlike an executor's, its thread delays no exit."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a function returns there, or raise what it raises."""
        future: Future = Future()
        self._calls.put((future, function, args))
        return future.result()

    def close(self) -> None:
        """End the thread when it has done what it was called for."""
        self._calls.put(None)

    def _work(self) -> None:
        while call := self._calls.get():
            future, function, args = call
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
