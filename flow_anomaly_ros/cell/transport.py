# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Shared-memory transport of images between nodes on one machine."""

import os
from typing import TypeVar

PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
# A user who has set one of these has chosen a transport.
_TRANSPORT_VARIABLES = (PROFILE_VARIABLE, 'FASTDDS_BUILTIN_TRANSPORTS')

T = TypeVar('T')


def transport_environment(profile: T) -> dict[str, T]:
    """Return the extra environment variables of a node that publishes images.

    Args:
        profile: Path of `config/fastdds.xml`, or the launch substitution that resolves to it.

    Returns:
        The variable that makes Fast DDS load the profile; empty if the environment already
        selects a transport.
    """
    is_chosen = any(map(os.environ.get, _TRANSPORT_VARIABLES))
    return {} if is_chosen else {PROFILE_VARIABLE: profile}
