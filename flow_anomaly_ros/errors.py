# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What an exception of somebody else's says, in one line."""


def error_summary(error: Exception, most: int | None = None) -> str:
    """The message of an exception, or its class where it says nothing.

    Args:
        error: The exception.
        most: Characters of the message that are kept; None: all.
    """
    return ' '.join(str(error).split())[:most] or type(error).__name__
