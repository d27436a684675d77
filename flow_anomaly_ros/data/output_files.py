# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files and folders that results are written to: checked before the work, written atomically."""

import json
import os
from pathlib import Path

from flow_anomaly_ros.data.atomic import atomic_write


def require_writable(path: Path) -> None:
    """Check that a file can be written, before the work whose result it is to hold.

    Raises:
        ValueError: The path is a folder, or its folder is missing or read-only.
    """
    if path.is_dir():
        msg = f'cannot write {path}: it is a folder; give a file name'
        raise ValueError(msg)
    if not path.parent.is_dir():
        msg = f'cannot write {path}: there is no folder {path.parent}; create it first'
        raise ValueError(msg)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        msg = f'cannot write {path}: the folder {path.parent} is read-only; give another one'
        raise ValueError(msg)


def make_folder(path: Path) -> None:
    """Make a folder for pictures where it is missing.

    Raises:
        ValueError: It cannot be made, or is read-only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f'cannot make the folder {path}: {error.strerror}; give another one'
        raise ValueError(msg) from error
    require_writable(path / 'picture.png')


def write_json(path: Path, values: object) -> None:
    """Write values as JSON, whole or not at all."""
    text = json.dumps(values, indent=2, allow_nan=False) + '\n'
    with atomic_write(path) as temporary:
        temporary.write_text(text)
