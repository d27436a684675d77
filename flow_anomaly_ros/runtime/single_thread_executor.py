# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A worker thread for functions that must all run in the same thread."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
import threading
from typing import Any

_Call = tuple[Future, Callable[..., Any], tuple[Any, ...]]


class SingleThreadExecutor:
    """Runs functions one after the other; unlike an executor's, its thread is a daemon."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in the thread; returns its result or raises its exception."""
        future: Future = Future()
        self._calls.put((future, function, args))
        return future.result()

    def close(self) -> None:
        """End the thread after the pending calls."""
        self._calls.put(None)

    def _work(self) -> None:
        while call := self._calls.get():
            future, function, args = call
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
