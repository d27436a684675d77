# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks of a method's options."""


def check_option(holds: bool, name: str, value: object, wanted: str) -> None:
    """Refuse the value of an option.

    Args:
        holds: Whether the value can be used.
        name: Name of the option.
        value: Its value.
        wanted: What it must be.

    Raises:
        ValueError: If it cannot be used; one line.
    """
    if not holds:
        msg = f'{name} is {value}: it must be {wanted}'
        raise ValueError(msg)
