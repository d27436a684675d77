# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How far a training is: for people on stderr, for programs on stdout."""

import json
import os
import signal
import sys
import threading
import time

from flow_anomaly_ros.runtime.eta import EtaEstimator
from tqdm import tqdm

# Seconds between two lines for a program, within a stage.
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
        """Nothing is shown before the first step."""
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
        told = '' if loss is None else f'loss {loss:.4g}'
        if self._bar is not None:
            self._bar.set_postfix_str(told, refresh=False)
            # Of many steps only some may be told.
            self._bar.update(step - self._bar.n)
        elif step == steps:
            seconds = time.perf_counter() - self._started
            line = f'{stage}: {steps} steps in {seconds:.1f} s'
            print(f'{line}, {told}' if told else line, file=sys.stderr)

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JsonProgress:
    """Steps as JSON objects on stdout, a line each, a few a second.

    Their keys are stage, step, steps, loss (null where there is none) and seconds_left (null while
    that cannot be told). Called as `detectors.base.Progress`; a context manager as `StageProgress`.

    In it SIGINT, and the end of stdin, which comes when whoever started this process has died,
    raise KeyboardInterrupt at the next step: raised by a signal, Python would drop it if a
    destructor happened to run.
    """

    def __init__(self) -> None:
        self._time_left = EtaEstimator()
        self._next = 0.0
        self._is_stopped = threading.Event()

    def __enter__(self) -> 'JsonProgress':
        """Listen for who wants it to stop; nothing is told before the first step."""
        self._handler = signal.signal(signal.SIGINT, lambda *_: self._is_stopped.set())
        threading.Thread(target=self._await_end_of_stdin, name='stdin', daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Every line is out already."""
        signal.signal(signal.SIGINT, self._handler)

    def _await_end_of_stdin(self) -> None:
        # Past Python's buffer, whose lock would be held when the process ends.
        while os.read(sys.stdin.fileno(), 1024):
            pass
        self._is_stopped.set()

    def __call__(self, stage: str, step: int, steps: int, loss: float | None) -> None:
        """Tell of one more step; see `detectors.base.Progress`."""
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
