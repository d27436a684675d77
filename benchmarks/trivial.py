# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Baselines that learn nothing.

Where they come close to the methods, the set separates good from defective images by brightness or
contrast alone, which any method may pick up without finding a defect.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

# Standard deviation in px of the Gaussian window.
WINDOW_PX = 4.0


def mean_grey(images: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score an image by how far its mean is from that of the good ones; the map is constant.

    Args:
        images: NxHxW grey in [0, 1].
        good: Good training images, likewise.

    Returns:
        Score maps, NxHxW, and image scores, N.
    """
    scores = np.abs(images.mean((1, 2)) - np.median(good.mean((1, 2))))
    return np.broadcast_to(scores[:, None, None], images.shape), scores


def local_deviation(images: np.ndarray, _good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score a pixel by the standard deviation around it, and an image by its largest one."""
    maps = np.stack([_deviation(image) for image in images])
    return maps, maps.max((1, 2))


TRIVIAL: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    'mean_grey': mean_grey,
    'local_deviation': local_deviation,
}


def to_grey(images: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Return images, HxW or HxWx3 RGB of uint8 or uint16, as NxSIZExSIZE grey in [0, 1]."""
    grey = [x if x.ndim == 2 else cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in images]
    resized = [cv2.resize(x, (size, size), interpolation=cv2.INTER_AREA) for x in grey]
    largest = {'uint8': 255, 'uint16': 65535}
    return np.stack([x.astype(np.float32) / largest[str(x.dtype)] for x in resized])


def _deviation(image: np.ndarray) -> np.ndarray:
    mean = cv2.GaussianBlur(image, (0, 0), WINDOW_PX)
    variance = cv2.GaussianBlur(image * image, (0, 0), WINDOW_PX) - mean * mean
    return np.sqrt(np.maximum(variance, 0))
