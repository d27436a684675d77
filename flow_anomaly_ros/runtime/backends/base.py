# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The interface of a backend."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Precisions of the networks; models are trained and calibrated in the first.
PRECISIONS = ('float32', 'bfloat16', 'float16')


def backend_name(words: str, precision: str, device: str) -> str:
    """Name a backend for people; float32 is not mentioned."""
    return f'{words}{f", {precision}" * (precision != PRECISIONS[0])} on {device}'


class Scores(NamedTuple):
    """A `DetectorOutput` on the CPU.

    Attributes:
        score_maps: BxHxW float32 at the size of the detector's input.
        image_scores: B float32.
        classes: B indices of the classes that the images were assigned to.
    """

    score_maps: np.ndarray
    image_scores: np.ndarray
    classes: np.ndarray


class Backend(ABC):
    """A detector on a device.

    Attributes:
        name: Runtime and device, for people.
    """

    name: str

    @abstractmethod
    def prepare(self, images: Sequence[np.ndarray]) -> Any:
        """Preprocess camera images into a batch for `detect`.

        Args:
            images: HxW (grey) or HxWx3 RGB arrays, uint8 or uint16; sizes may differ.

        Raises:
            ValueError: An array is not such an image.
        """

    @abstractmethod
    def detect(self, batch: Any, classes: Sequence[int | None]) -> Scores:
        """Score a batch; call it from one thread at a time.

        Args:
            batch: Result of `prepare`.
            classes: Index of the class that each image shows; None: it is estimated.
        """

    def explain(
        self, image: np.ndarray, part_class: int | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Return what the detector compared: rows of captions and RGB or grey uint8 arrays.

        Args:
            image: As in `prepare`.
            part_class: Index of its class; None: it is estimated.

        Raises:
            ValueError: The array is not an image, or the backend cannot explain.
        """
        msg = f'{self.name} cannot explain its scores: use the .safetensors model'
        raise ValueError(msg)

    @abstractmethod
    def close(self) -> None:
        """Free the device's memory; the backend cannot be used afterwards."""


def class_indices(classes: Sequence[int | None]) -> np.ndarray:
    """Return B int64 indices for a detector: -1 for a class to be estimated."""
    return np.array([-1 if index is None else index for index in classes], np.int64)
