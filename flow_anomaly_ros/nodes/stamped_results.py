# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Groups the results of an inspection by the stamp that they share."""

from collections.abc import Collection
from typing import Any

from builtin_interfaces.msg import Time
from flow_anomaly_ros.nodes.stamps import nanoseconds


class StampedResults:
    """Collects messages of several topics until each topic has one with the same stamp.

    message_filters has a TimeSynchronizer for this, but is not available as a wheel.

    Args:
        topics: The topics of a complete group.
    """

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics
        self._groups: dict[int, dict[str, Any]] = {}

    def add(self, topic: str, stamp: Time, message: Any) -> None:
        """Add a message, in place of an earlier one of the same topic and stamp."""
        self._groups.setdefault(nanoseconds(stamp), {})[topic] = message

    def complete(self) -> list[dict[str, Any]]:
        """Return the groups that have a message of each topic, by topic, the oldest first."""
        return [group for group in self._groups.values() if len(group) == len(self._topics)]

    def clear(self) -> None:
        """Remove all messages."""
        self._groups.clear()
