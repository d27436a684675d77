# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings of the memory allocator of the C library."""

import ctypes
import os

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
THRESHOLD_BYTES = 2**30


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, up to 1 GiB, for later use.

    Otherwise glibc gives the memory of large tensors back to the system at every step of a
    training, and the system clears it before the next one: a fifth of the time on a CPU. C
    libraries without mallopt stay as they are, as do settings of the environment (MALLOC_...).
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None or any(name.startswith('MALLOC_') for name in os.environ):
        return
    for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        mallopt(parameter, THRESHOLD_BYTES)
