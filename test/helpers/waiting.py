# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Wait for what other threads and processes do, for as long as this machine may need.

A limit is there for the test whose event never comes, so it is generous, and grows with the time
that a node takes to import here. What is promised in seconds is measured by `benchmarks/`.
"""

from collections.abc import Callable, Iterable
import functools
import subprocess
import sys
import time
from typing import Any

# Enough on an idle machine.
IDLE_LIMIT_S = 60.0
# Anything happens within this many times the import of a node.
IMPORTS = 30


@functools.cache
def import_seconds() -> float:
    """Measure how long a node takes to import on this machine, as busy as it is."""
    started = time.monotonic()
    subprocess.run([sys.executable, '-c', 'import flow_anomaly_ros.nodes.detector'], check=True)
    return time.monotonic() - started


def is_too_long(seconds: float) -> bool:
    """Say whether nothing takes that long here; measures the import only after the idle limit."""
    return seconds > IDLE_LIMIT_S and seconds > IMPORTS * import_seconds()


def wait_for(
    is_there: Callable[[], Any],
    what: str = 'it',
    *,
    seen: Callable[[], object] | None = None,
    processes: Iterable[subprocess.Popen] = (),
    pause: float = 0.02,
) -> Any:
    """Wait until a condition holds.

    Args:
        is_there: The condition; it may also publish what the event depends on.
        what: The event, for the message.
        seen: What there is instead, for the message.
        processes: They must run meanwhile: none of them brings the event about once it has ended.
        pause: Seconds between two looks.

    Returns:
        The true value of the condition.

    Raises:
        AssertionError: It does not hold in time, or a process has ended.
    """
    started = time.monotonic()
    while not (value := is_there()):
        waited = time.monotonic() - started
        shown = f'; seen: {seen()}' if seen else ''
        for process in processes:
            status = process.poll()
            assert status is None, (
                f'{process.args} ended with status {status} after {waited:.0f} s of waiting for '
                f'{what}{shown}'
            )
        assert not is_too_long(waited), f'waited {waited:.0f} s for {what}{shown}'
        time.sleep(pause)
    return value


def exit_status(process: subprocess.Popen) -> int:
    """Wait for the end of a process whose output needs no reader; returns its status."""
    wait_for(lambda: process.poll() is not None, f'the end of {process.args}')
    return process.returncode


def finish(process: subprocess.Popen) -> tuple[Any, Any]:
    """Close the stdin of a process, read its output, and wait for its end.

    Returns:
        What it wrote to stdout and to stderr, None where that is not a pipe.

    Raises:
        AssertionError: It does not end in time; it is killed, and the message has its output.
    """
    started = time.monotonic()
    while True:
        try:
            return process.communicate(timeout=IDLE_LIMIT_S)
        except subprocess.TimeoutExpired:
            waited = time.monotonic() - started
            if is_too_long(waited):
                process.kill()
                written = process.communicate()
                msg = f'{process.args} had not ended after {waited:.0f} s; it wrote {written}'
                raise AssertionError(msg) from None


def run_to_end(command: list, **options: Any) -> subprocess.CompletedProcess:
    """Run a command and wait for its end, as `finish` does; its output is text."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options) as process:
        output, errors = finish(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
