# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The frame of every executable: start ROS, end cleanly, say in one line what is wrong."""

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
