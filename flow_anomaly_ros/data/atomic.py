# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary file to write to, which takes the place of `path` at the end.

    After an exception the temporary file is gone and `path` as it was.

    Args:
        path: The file wanted.

    Raises:
        OSError: It cannot be written, with its name: a full disk alone would not tell it.
    """
    # The hidden name keeps a half-written file out of every folder listing.
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
