# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The frame of every executable: start ROS, end cleanly, say in one line what is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.exceptions import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
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
    InvalidTopicNameException,
    ParameterUninitializedException,
)


@contextmanager
def ros_process(name: str, args: list[str] | None = None) -> Iterator[None]:
    """Run a node's life in this context.

    Args:
        name: Name in the log, before there is a node.
        args: Command line; None takes the process's own.

    Raises:
        SystemExit: With status 1 after a user's error, which is logged as one line. An interrupt
            ends the context quietly, also in the middle of the node's construction.
    """
    rclpy.init(args=args)
    try:
        yield
    except USER_ERRORS as error:
        get_logger(name).error(' '.join(str(error).split()))
        raise SystemExit(1) from None
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # Whatever fails because the context is gone, fails because of the interrupt.
        if rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
