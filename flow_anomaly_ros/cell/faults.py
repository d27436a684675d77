# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The fault of a cell: there from the first thing that went wrong until somebody has seen it."""


class Fault:
    """Remembers the latest of the things that went wrong.

    Attributes:
        text: One line; empty while there is no fault.
        count: How many things have gone wrong so far, cleared ones included.
    """

    def __init__(self) -> None:
        self.text = ''
        self.count = 0
        self._since = 0.0

    def add(self, text: str, now: float) -> None:
        """Note one more thing that went wrong, at `now` s."""
        self.text, self._since = text, now
        self.count += 1

    def clear(self) -> None:
        """Take the fault as seen."""
        self.text = ''

    def expire(self, now: float, after: float) -> None:
        """Clear the fault if nothing went wrong for `after` s; 0 waits for `clear`."""
        if 0 < after <= now - self._since:
            self.clear()
