# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Finds images that show the same part as another one."""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial.distance import pdist, squareform

# Side in px of the small images that are compared: their pixels are means, which noise hardly
# changes.
SIGNATURE_SIDE = 64
# Two images show the same part if they differ at most by this share of what two images usually
# differ by. Images of different parts differ by 0.10 to 0.47 at least (a hundred images of each of
# eight sets), two images of a part by 0.01 to 0.10 if the noise is 5 of 255.
MAX_DIFFERENCE = 0.1


def signature(image: np.ndarray) -> np.ndarray:
    """Shrink an image to what `find_duplicates` compares.

    Args:
        image: HxW grey or HxWx3 RGB, uint8 or uint16.

    Returns:
        `SIGNATURE_SIDE` squared float32 values in [0, 1].
    """
    side = SIGNATURE_SIDE
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = small if small.ndim == 2 else small.mean(axis=2)
    return grey.ravel() / np.float32(np.iinfo(image.dtype).max)


def find_duplicates(signatures: Sequence[np.ndarray]) -> dict[int, int]:
    """Find images that show the same part as an earlier one, such as frames of a burst.

    Args:
        signatures: Of the images, see `signature`.

    Returns:
        For the index of each such image, that of the first image of its part.
    """
    if len(signatures) < 2:
        return {}
    pairs = pdist(np.stack(signatures))
    distances, limit = squareform(pairs), MAX_DIFFERENCE * np.median(pairs)
    firsts: list[int] = []
    duplicates = {}
    for index, row in enumerate(distances):
        first = next((earlier for earlier in firsts if row[earlier] <= limit), None)
        if first is None:
            firsts.append(index)
        else:
            duplicates[index] = first
    return duplicates
