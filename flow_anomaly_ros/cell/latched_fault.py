# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A fault that stays raised until an operator clears it or it expires."""


class LatchedFault:
    """Holds the latest fault message.

    Attributes:
        text: The message, one line; empty while no fault is raised.
        count: Number of faults raised since the start, including cleared ones.
    """

    def __init__(self) -> None:
        self.text = ''
        self.count = 0
        self._raised_at = 0.0

    def set(self, text: str, now: float) -> None:
        """Raise a fault; its message replaces the previous one.

        Args:
            text: The message, one line.
            now: Current time in s, on a monotonic clock.
        """
        self.text, self._raised_at = text, now
        self.count += 1

    def clear(self) -> None:
        """Clear the fault; the count stays."""
        self.text = ''

    def expire(self, now: float, after: float) -> None:
        """Clear the fault if no new one was raised for a while.

        Args:
            now: Current time in s, on the clock of `set`.
            after: Lifetime of a fault in s; 0 keeps it until `clear` is called.
        """
        if 0 < after <= now - self._raised_at:
            self.clear()
