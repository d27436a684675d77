# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Passes the newest camera frames from ROS callbacks to the inspecting thread."""

import threading
from typing import Any


class LatestFrameBuffer:
    """Holds the newest message of each camera; messages that a newer one replaces are counted.

    Inspection sometimes takes longer than the time between two frames. A queue would then grow and
    delay every later verdict, while the robot waits for the newest part.
    """

    def __init__(self) -> None:
        self._newest: dict[str, Any] = {}
        self._dropped: dict[str, int] = {}
        self._closed = False
        self._changed = threading.Condition()

    def put(self, camera: str, message: Any) -> None:
        """Store a message, replacing the camera's previous one."""
        with self._changed:
            if camera in self._newest:
                self._dropped[camera] = self._dropped.get(camera, 0) + 1
            self._newest[camera] = message
            self._changed.notify()

    def take_all(self) -> dict[str, Any]:
        """Wait for a message, then take the newest of each camera; empty after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._closed)
            if self._closed:
                return {}
            newest, self._newest = self._newest, {}
            return newest

    def dropped(self, camera: str) -> int:
        """Return how many messages of a camera were replaced before they were taken."""
        with self._changed:
            return self._dropped.get(camera, 0)

    def close(self) -> None:
        """Wake the waiting thread; nothing can be taken from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
