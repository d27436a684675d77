# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Main function of every executable: starts ROS, exits cleanly, logs an error as one line."""

from collections.abc import Callable

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
            rclpy.try_shutdown()
    except KeyboardInterrupt:
        # rclpy shuts the context down first; KeyboardInterrupt follows, wherever the code is then.
        return None
