# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the runtimes of exported models share."""

from collections.abc import Sequence
import importlib
from pathlib import Path
from types import ModuleType

from flow_anomaly_ros.runtime.artifact import ArtifactError
from flow_anomaly_ros.runtime.backends.base import Backend, class_indices, Scores
from flow_anomaly_ros.runtime.manifest import Manifest
from flow_anomaly_ros.runtime.preprocess import to_rgb
import numpy as np


class ExportedBackend(Backend):
    """A model that `flow-anomaly export` wrote.

    Attributes:
        manifest: What the file says about itself.
    """

    manifest: Manifest

    def prepare(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """BxHxWx3 uint8; see `Backend.prepare`."""
        return np.stack([to_rgb(one, self.manifest.input_size) for one in images])

    def inputs(self, batch: np.ndarray, classes: Sequence[int | None]) -> dict[str, np.ndarray]:
        """Inputs of the graph by name; classes only where it tells several apart."""
        if len(self.manifest.classes) == 1:
            return {'images': batch}
        return {'images': batch, 'classes': class_indices(classes)}

    def scores(self, outputs: Sequence[np.ndarray]) -> Scores:
        """Scores from the outputs of the graph, in their order."""
        score_maps, image_scores, *classes = outputs
        return Scores(score_maps, image_scores, *(classes or [np.zeros(len(score_maps), np.int64)]))


def library(name: str, path: Path) -> ModuleType:
    """Import a library that only exported models need.

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


def unusable(path: Path, error: Exception) -> ArtifactError:
    """The one line about a file that its runtime does not take."""
    why = ' '.join(str(error).split())[:200] or type(error).__name__
    return ArtifactError(f'{path} is no exported model or is damaged ({why}): export anew')
