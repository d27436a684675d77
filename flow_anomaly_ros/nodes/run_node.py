# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The frame of every executable: start ROS, end cleanly, say in one line what is wrong."""

from collections.abc import Callable
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

# What a user can get wrong; everything else is a bug and shows its traceback.
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
    name: str, live: Callable[[], int | None], args: list[str] | None = None
) -> int | None:
    """Start ROS, run a node's life, end ROS.

    Args:
        name: Name in the log, before there is a node.
        live: Makes a node, spins and destroys it.
        args: Command line; None takes the process's own.

    Returns:
        What `live` returned; None after an interrupt, which ends it quietly at any moment, also
        in the middle of the node's construction.

    Raises:
        SystemExit: With status 1 after a user's error, which is logged as one line.
    """
    try:
        _interrupt_on_signals()
        rclpy.init(args=args)
        try:
            return live()
        except USER_ERRORS as error:
            get_logger(name).error(' '.join(str(error).split()))
            raise SystemExit(1) from None
        except ExternalShutdownException:
            return None
        except Exception:
            # Whatever fails because the context is gone, fails because of the interrupt.
            if rclpy.ok():
                raise
            return None
        finally:
            rclpy.try_shutdown()
    except KeyboardInterrupt:
        # rclpy takes the context away first; this comes a moment later, wherever that is.
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
