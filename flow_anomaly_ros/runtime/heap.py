# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings of the memory allocator of the C library."""

import ctypes
import os

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
THRESHOLD_BYTES = 2**30
# Beginnings of the environment variables that set them.
VARIABLES = ('MALLOC_', 'GLIBC_TUNABLES')


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, up to 1 GiB, for later use.

    Otherwise glibc gives the memory of large tensors back to the system at every step of a
    training, and the system clears it before the next one: a fifth of the time on a CPU. C
    libraries that cannot do this stay as they are, as do settings of the environment.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None or any(name.startswith(VARIABLES) for name in os.environ):
        return
    # Older versions refuse so large a value; the other one alone would make things worse.
    if mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES):
        mallopt(M_TRIM_THRESHOLD, THRESHOLD_BYTES)
