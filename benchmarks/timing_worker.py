# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Functions of several processes, timed in turn, so that a noisy machine is noisy for all alike."""

from collections.abc import Callable, Mapping, Sequence
import json
import subprocess
import sys
import time


def serve(functions: Mapping[str, Callable[[], object]]) -> None:
    """Tell the names of functions, then time those that are asked for, until stdin ends."""
    print(json.dumps(list(functions)), flush=True)
    for line in sys.stdin:
        name, runs = json.loads(line)
        # After a pause caches are cold, which no camera at work leaves them.
        functions[name]()
        seconds = []
        for _ in range(runs):
            started = time.perf_counter()
            functions[name]()
            seconds.append(time.perf_counter() - started)
        print(json.dumps([1e3 * duration for duration in seconds]), flush=True)


class Worker:
    """A process that serves functions.

    Args:
        command: What starts it. Lines of its stdout that are no JSON lists are passed over.

    Attributes:
        names: Names of the functions.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.names: list[str] = self._read()

    def time(self, name: str, runs: int) -> list[float]:
        """Milliseconds of each of some runs of a function."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, runs]) + '\n')
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> list:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith('['):
                return json.loads(line)
        msg = f'the process ended with status {self._process.wait()}'
        raise RuntimeError(msg)


def time_in_turn(workers: Sequence[Worker], rounds: int, runs: int) -> dict[str, list[float]]:
    """Milliseconds of all functions of all workers, `runs` at a time, by their names."""
    found: dict[str, list[float]] = {name: [] for worker in workers for name in worker.names}
    for _ in range(rounds):
        for worker in workers:
            for name in worker.names:
                found[name] += worker.time(name, runs)
    return found
