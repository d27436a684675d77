# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How images pass between the nodes of one machine."""

import os
from typing import TypeVar

PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
# Whoever has set one of them has chosen otherwise.
_CHOICES = (PROFILE_VARIABLE, 'FASTDDS_BUILTIN_TRANSPORTS')

T = TypeVar('T')


def transport_environment(profile: T) -> dict[str, T]:
    """Environment of a node that publishes images, beside that of its parent.

    Args:
        profile: The file `config/fastdds.xml`, or what a launch file makes its path of.

    Returns:
        What makes Fast DDS read it; nothing if the environment says how it is to pass data.
    """
    return {} if any(map(os.environ.get, _CHOICES)) else {PROFILE_VARIABLE: profile}
