# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Libraries that only exported models need."""

import importlib
from pathlib import Path
from types import ModuleType


def library(name: str, path: Path) -> ModuleType:
    """Import a library.

    Args:
        name: Its name, for Python and for pip.
        path: The model that needs it.

    Raises:
        ValueError: It is not installed; one line.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        msg = f'{path} needs {name}: pip install {name}'
        raise ValueError(msg) from error
