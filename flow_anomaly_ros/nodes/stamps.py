# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Stamps of message headers as numbers."""

from builtin_interfaces.msg import Time


def nanoseconds(stamp: Time) -> int:
    """Return a stamp in nanoseconds; 0 if the message was not stamped."""
    return stamp.sec * 10**9 + stamp.nanosec
