# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Region of interest: the part of a camera image in which defects count."""

from pathlib import Path

import cv2
from flow_anomaly_ros.data.images import ImageReadError, read_image
import numpy as np


def read_roi(path: Path) -> np.ndarray:
    """Read a region of interest from an image file, usually a PNG.

    Returns:
        HxW bool: False where the image is black, True elsewhere.

    Raises:
        ValueError: The image cannot be read or is black everywhere; the message is one line.
    """
    try:
        image = read_image(path)
    except ImageReadError as error:
        msg = f'region of interest: {error}'
        raise ValueError(msg) from error
    roi = (image if image.ndim == 2 else image.max(axis=2)) > 0
    if not roi.any():
        msg = f'region of interest {path} is black everywhere: paint the area to inspect white'
        raise ValueError(msg)
    return roi


def resize_roi(roi: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a region of interest.

    Args:
        roi: HxW bool.
        size: Target (height, width) in px.

    Returns:
        heightxwidth bool, True where the region covers part of a pixel.
    """
    if roi.shape == size:
        return roi
    # Area averages, so that a thin region cannot fall between the pixels of a smaller map.
    shrinks = size[0] < roi.shape[0] or size[1] < roi.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return cv2.resize(255 * roi.view(np.uint8), size[::-1], interpolation=interpolation) > 0


def apply_roi(
    score_map: np.ndarray, image_score: float, roi: np.ndarray
) -> tuple[np.ndarray, float]:
    """Ignore scores outside a region of interest.

    Args:
        score_map: HxW float32, >= 0.
        image_score: Score of the whole image.
        roi: hxw bool of the same aspect ratio.

    Returns:
        The score map with zeros outside the region, and the image score, limited to the largest
        score inside. NaN is propagated.
    """
    inside = np.where(resize_roi(roi, score_map.shape), score_map, np.float32(0))
    return inside, float(np.minimum(image_score, inside.max()))
