# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How far a training is, on stderr."""

import sys
import time

from tqdm import tqdm


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
        """Leave the cursor on a line of its own."""
        self._close_bar()

    def __call__(self, stage: str, step: int, steps: int, loss: float | None) -> None:
        """Show one more step; see `detectors.base.Progress`."""
        if self._quiet:
            return
        if stage != self._stage:
            self._close_bar()
            self._stage, self._started = stage, time.perf_counter()
            if sys.stderr.isatty():
                self._bar = tqdm(total=steps, desc=stage, unit='step', file=sys.stderr)
        told = '' if loss is None else f'loss {loss:.4g}'
        if self._bar is not None:
            self._bar.set_postfix_str(told, refresh=False)
            self._bar.update()
        elif step == steps:
            seconds = time.perf_counter() - self._started
            line = f'{stage}: {steps} steps in {seconds:.1f} s'
            print(f'{line}, {told}' if told else line, file=sys.stderr)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
