# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages of exceptions from other libraries, shortened to fit on one line."""


def error_summary(error: BaseException, max_chars: int | None = None) -> str:
    """Put the whole message of an exception on one line.

    Args:
        error: The exception.
        max_chars: Maximum length of the result; None: unlimited.

    Returns:
        The message with each run of white space replaced by one space, or the name of the
        exception's class if the message is empty.
    """
    return ' '.join(str(error).split())[:max_chars] or type(error).__name__


def error_first_line(error: BaseException) -> str:
    """Return the first line of an exception's message.

    PyTorch names the problem in the first line; advice and C++ stack traces follow it.

    Returns:
        The first line, or the name of the exception's class if the message is empty.
    """
    return (str(error) or type(error).__name__).splitlines()[0]
