# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Warnings about images that do not fit a model."""

from pathlib import Path
import sys

from flow_anomaly_ros.runtime.manifest import Manifest
import numpy as np


def warn_incompatible_image(
    path: Path, image: np.ndarray, manifest: Manifest, warned: set[str]
) -> None:
    """Warn on stderr of an image that does not fit the model, once for each reason.

    Args:
        path: File of the image.
        image: HxW or HxWx3.
        manifest: Manifest of the model.
        warned: Reasons that were printed so far; this one is added.
    """
    incompatibility = manifest.incompatibility(image.shape)
    if incompatibility and incompatibility not in warned:
        warned.add(incompatibility)
        print(f'{path}: {incompatibility}', file=sys.stderr)
