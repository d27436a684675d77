# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The interface of everything that runs a detector."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# What networks compute in. The first is what models are trained and calibrated in.
PRECISIONS = ('float32', 'bfloat16', 'float16')


def named(words: str, precision: str, device: str) -> str:
    """Name a backend for people; float32 goes without saying."""
    return f'{words}{f", {precision}" * (precision != PRECISIONS[0])} on {device}'


class Scores(NamedTuple):
    """A `DetectorOutput` on the CPU.

    Attributes:
        score_maps: BxHxW float32 at the size of the detector's input.
        image_scores: B float32.
        classes: B indices of the classes that the images were taken for.
    """

    score_maps: np.ndarray
    image_scores: np.ndarray
    classes: np.ndarray


class Backend(ABC):
    """A detector on a device.

    Attributes:
        name: What runs it and where, for people.
    """

    name: str

    @abstractmethod
    def prepare(self, images: Sequence[np.ndarray]) -> Any:
        """Make a batch for `detect` out of camera images.

        Args:
            images: HxW (grey) or HxWx3 RGB arrays, uint8 or uint16; sizes may differ.

        Raises:
            ValueError: An array that is no such image.
        """

    @abstractmethod
    def detect(self, batch: Any, classes: Sequence[int | None]) -> Scores:
        """Score a batch of `prepare`; from one thread at a time.

        Args:
            batch: What that made.
            classes: Index of the class that each image shows; None: it is estimated.
        """

    def explain(
        self, image: np.ndarray, part_class: int | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Pictures of what the detector compared, rows of captions and RGB or grey uint8 arrays.

        Args:
            image: As of `prepare`.
            part_class: As one of `detect`.

        Raises:
            ValueError: An array that is no image, or a backend that has no such pictures.
        """
        msg = f'{self.name} shows no pictures of what it compared: give the .safetensors model'
        raise ValueError(msg)

    @abstractmethod
    def close(self) -> None:
        """Free the device's memory; the backend is of no use afterwards."""


def class_indices(classes: Sequence[int | None]) -> np.ndarray:
    """Indices as detectors take them, B int64: -1 for a class that is to be estimated."""
    return np.array([-1 if one is None else one for one in classes], np.int64)
