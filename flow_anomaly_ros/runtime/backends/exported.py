# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the backends of exported models share."""

from abc import abstractmethod
from collections.abc import Sequence
import importlib
from pathlib import Path
from types import ModuleType

from flow_anomaly_ros.detectors.base import DetectorOutput
from flow_anomaly_ros.errors import error_summary
from flow_anomaly_ros.runtime.artifact import ArtifactError
from flow_anomaly_ros.runtime.backends.base import Backend, class_indices, Scores
from flow_anomaly_ros.runtime.manifest import Manifest
from flow_anomaly_ros.runtime.preprocess import to_rgb
from flow_anomaly_ros.runtime.tiling import score_tiles
import numpy as np
import torch
from torch import Tensor


class ExportedBackend(Backend):
    """A model that `flow-anomaly export` wrote.

    Attributes:
        manifest: Manifest of the file.
    """

    manifest: Manifest

    @abstractmethod
    def run(self, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Run the graph: inputs by name to outputs in their order."""

    def prepare(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """BxHxWx3 uint8; see `Backend.prepare`."""
        size, max_value = self.manifest.input_size, self.manifest.max_value
        return np.stack([to_rgb(image, size, max_value) for image in images])

    def detect(self, batch: np.ndarray, classes: Sequence[int | None]) -> Scores:
        """Score a batch; see `Backend.detect`."""
        tile = self.manifest.tile
        if tile is None:
            return self._scores(batch, classes)

        def of_tiles(tiles: Tensor) -> DetectorOutput:
            scores = self._scores(tiles.permute(0, 2, 3, 1).numpy(), [])
            return DetectorOutput(*map(torch.from_numpy, scores))

        whole = score_tiles(of_tiles, torch.from_numpy(batch).permute(0, 3, 1, 2), tile)
        return Scores(whole.score_map.numpy(), whole.image_score.numpy(), _one_class(batch))

    def _scores(self, images: np.ndarray, classes: Sequence[int | None]) -> Scores:
        """Score images or tiles; only graphs of several classes have them as an input."""
        inputs = {'images': images}
        if len(self.manifest.classes) > 1:
            inputs['classes'] = class_indices(classes)
        score_maps, image_scores, *known = self.run(inputs)
        return Scores(score_maps, image_scores, *(known or [_one_class(images)]))


def _one_class(images: np.ndarray) -> np.ndarray:
    return np.zeros(len(images), np.int64)


def import_library(name: str, path: Path) -> ModuleType:
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


def unusable_file_error(path: Path, error: Exception) -> ArtifactError:
    """Return the error about a file that its runtime does not accept."""
    why = error_summary(error, 200)
    return ArtifactError(f'{path} is not an exported model or is damaged ({why}): export it again')
