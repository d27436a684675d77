# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs a `flow-anomaly` command in a separate process."""

from collections import deque
from collections.abc import Sequence
import json
import queue
import signal
import subprocess
import sys
import threading
from typing import Any

# Lines of output that are kept.
MAX_OUTPUT_LINES = 20
# Seconds that an interrupted command has to end.
SHUTDOWN_TIMEOUT_S = 10.0


class CommandProcess:
    """A command in a separate process, so that neither can slow down or break the other.

    A command with --json-progress ends when this process does, for whatever reason: it notices that
    its stdin is closed.

    Args:
        arguments: Arguments of `flow-anomaly`.
        priority: Niceness, 0 to 19.
    """

    def __init__(self, arguments: Sequence[str], priority: int = 0) -> None:
        command = ['nice', '-n', str(priority), sys.executable, '-m', 'flow_anomaly_ros.cli']
        # In its own session: Ctrl-C reaches only this process, which then stops the command.
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._steps: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._output: deque[str] = deque(maxlen=MAX_OUTPUT_LINES)
        self._errors: deque[str] = deque(maxlen=MAX_OUTPUT_LINES)
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def steps(self) -> list[dict[str, Any]]:
        """Return the progress since the last call, as `JsonProgress` prints it."""
        steps = []
        while not self._steps.empty():
            steps.append(self._steps.get())
        return steps

    def poll(self) -> int | None:
        """Return the exit status; None while the command runs."""
        status = self._process.poll()
        if status is not None:
            for reader in self._readers:
                reader.join()
        return status

    @property
    def message(self) -> str:
        """Last line of its errors, or of its output after success."""
        lines = (self._errors if self.poll() else self._output) or self._errors
        return lines[-1].removeprefix('flow-anomaly: ') if lines else f'exit status {self.poll()}'

    def cancel(self) -> None:
        """Interrupt it, as Ctrl-C does; no partial files are left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def stop(self) -> None:
        """Interrupt it and wait until it has ended; kill it if it does not."""
        self.cancel()
        try:
            self._process.wait(SHUTDOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read_output(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            values = json.loads(line) if line.startswith('{') else {'summary': [line.strip()]}
            if 'summary' in values:
                self._output.append('; '.join(values['summary']))
            else:
                self._steps.put(values)

    def _read_errors(self) -> None:
        assert self._process.stderr
        self._errors.extend(line.strip() for line in self._process.stderr if line.strip())
