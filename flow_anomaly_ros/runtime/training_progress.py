# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Progress of a training: for people on stderr, for programs on stdout."""

import json
import os
import signal
import sys
import threading
import time

from flow_anomaly_ros.runtime.eta import EtaEstimator
from tqdm import tqdm

# Seconds between two lines of JSON within a stage.
JSON_PERIOD_S = 0.2


class StageProgress:
    """A bar per training stage on a terminal, a line per finished stage elsewhere.

    Called as `detectors.base.Progress`; a context manager, so that an interrupted bar is closed.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._stage = ''
        self._started = 0.0
        self._bar: tqdm | None = None

    def __enter__(self) -> 'StageProgress':
        """Show nothing before the first step."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the bar."""
        self.close()

    def __call__(self, stage: str, step: int, steps: int, loss: float | None) -> None:
        """Show one more step; see `detectors.base.Progress`."""
        if self._quiet:
            return
        if stage != self._stage:
            self.close()
            self._stage, self._started = stage, time.perf_counter()
            if sys.stderr.isatty():
                self._bar = tqdm(total=steps, desc=stage, unit='step', file=sys.stderr)
        text = '' if loss is None else f'loss {loss:.4g}'
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            # Programs report only some of many steps.
            self._bar.update(step - self._bar.n)
        elif step == steps:
            seconds = time.perf_counter() - self._started
            line = f'{stage}: {steps} steps in {seconds:.1f} s'
            print(f'{line}, {text}' if text else line, file=sys.stderr)

    def close(self) -> None:
        """Close the bar and leave the cursor on a new line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JsonProgress:
    """Prints steps as JSON objects on stdout, one per line, a few per second.

    Their keys are stage, step, steps, loss (null in stages without one) and seconds_left (null
    while unknown). Called as `detectors.base.Progress`; a context manager as `StageProgress`.

    Within the context, SIGINT and the end of stdin, which comes when the parent process dies, raise
    KeyboardInterrupt at the next step: if a signal handler raised it, Python would drop it while a
    destructor runs.
    """

    def __init__(self) -> None:
        self._time_left = EtaEstimator()
        self._next = 0.0
        self._is_stopped = threading.Event()

    def __enter__(self) -> 'JsonProgress':
        """Watch for SIGINT and the end of stdin; nothing is printed before the first step."""
        self._handler = signal.signal(signal.SIGINT, lambda *_: self._is_stopped.set())
        threading.Thread(target=self._await_end_of_stdin, name='stdin', daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Restore the signal handler."""
        signal.signal(signal.SIGINT, self._handler)

    def _await_end_of_stdin(self) -> None:
        # Bypasses Python's buffer, whose lock would be held when the process exits.
        while os.read(sys.stdin.fileno(), 1024):
            pass
        self._is_stopped.set()

    def __call__(self, stage: str, step: int, steps: int, loss: float | None) -> None:
        """Print one more step; see `detectors.base.Progress`."""
        if self._is_stopped.is_set():
            raise KeyboardInterrupt
        now = time.monotonic()
        seconds_left = self._time_left.after(stage, step, steps, now)
        if now < self._next and step < steps:
            return
        self._next = now + JSON_PERIOD_S
        values = {
            'stage': stage,
            'step': step,
            'steps': steps,
            'loss': loss,
            'seconds_left': None if seconds_left is None else round(seconds_left, 1),
        }
        print(json.dumps(values), flush=True)
