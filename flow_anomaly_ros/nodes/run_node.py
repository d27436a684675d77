# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Main function of every executable: starts ROS, exits cleanly, logs an error as one line."""

from collections.abc import Callable
import contextlib
import signal

import rclpy
from rclpy.exceptions import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidServiceNameException,
    InvalidTopicNameException,
    ParameterUninitializedException,
)
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger

# Errors that a user can cause; every other exception is a bug and shows its traceback.
USER_ERRORS = (
    ValueError,
    TimeoutError,
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidServiceNameException,
    InvalidTopicNameException,
    ParameterUninitializedException,
)


def run_node(
    name: str, spin: Callable[[], int | None], args: list[str] | None = None
) -> int | None:
    """Start ROS, run a node and shut ROS down.

    Args:
        name: Name of the logger for errors in the node's construction.
        spin: Creates the node, spins it and destroys it.
        args: Command line; None takes that of the process.

    Returns:
        Return value of `spin`; None after an interrupt, which ends the node without a traceback at
        any moment, even during its construction.

    Raises:
        SystemExit: With status 1 after a user's error, which is logged as one line.
    """
    try:
        _interrupt_on_signals()
        rclpy.init(args=args)
        try:
            return spin()
        except USER_ERRORS as error:
            get_logger(name).error(' '.join(str(error).split()))
            raise SystemExit(1) from None
        except ExternalShutdownException:
            return None
        except Exception:
            # An exception after the shutdown of the context is a consequence of the interrupt.
            if rclpy.ok():
                raise
            return None
        finally:
            # The thread of rclpy that handles signals may shut the context down between the check
            # and the shutdown in this call.
            with contextlib.suppress(RuntimeError):
                rclpy.try_shutdown()
    except KeyboardInterrupt:
        # rclpy shuts the context down first; KeyboardInterrupt follows, wherever the code is then.
        return None


def _interrupt_on_signals() -> None:
    """Let SIGTERM raise KeyboardInterrupt in the main thread, as SIGINT does.

    After a signal, a thread of rclpy triggers the guard conditions of the executors and then shuts
    the context down. That leaves two moments in which nothing ends `spin`: the executor is not made
    yet when the guard conditions are triggered, or it wakes up, still finds the context valid, and
    waits again. A node without timers, such as a detector that nobody has configured, then waited
    for ever. rclpy also calls the handlers that were there before its own; an exception from one of
    them does not depend on who is faster.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
