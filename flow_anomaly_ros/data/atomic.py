# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Atomic writes: a file is replaced completely or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file through a temporary file that replaces it on success.

    If the block raises an exception, the temporary file is deleted and `path` is left unchanged.

    Args:
        path: The file to write.

    Yields:
        The temporary file, in the folder of `path`.

    Raises:
        OSError: The file cannot be written. The error names `path`, even if the disk is full.
    """
    # `list_images` and `read_folder` skip hidden files, so none of them lists a partial file.
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
