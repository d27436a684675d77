# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Region of interest: where in a camera's view defects count."""

from pathlib import Path

import cv2
from flow_anomaly_ros.data.images import ImageReadError, read_image
import numpy as np


def read_roi(path: Path) -> np.ndarray:
    """Read a region of interest from an image, as a rule a PNG: black is ignored.

    Returns:
        HxW bool, True where defects count.

    Raises:
        ValueError: No readable image, or one that is black everywhere; one line.
    """
    try:
        image = read_image(path)
    except ImageReadError as error:
        msg = f'region of interest: {error}'
        raise ValueError(msg) from error
    roi = (image if image.ndim == 2 else image.max(axis=2)) > 0
    if not roi.any():
        msg = f'region of interest {path} is black everywhere: paint white where defects count'
        raise ValueError(msg)
    return roi


def resize_roi(roi: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a region of interest to a (height, width) in px: hxw bool."""
    if roi.shape == size:
        return roi
    # Whatever is in part inside counts: a thin region must not fall between the pixels.
    shrinks = size[0] < roi.shape[0] or size[1] < roi.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return cv2.resize(255 * roi.view(np.uint8), size[::-1], interpolation=interpolation) > 0


def apply_roi(
    score_map: np.ndarray, image_score: float, roi: np.ndarray
) -> tuple[np.ndarray, float]:
    """Leave out what lies outside a region of interest.

    Args:
        score_map: HxW float32, not negative.
        image_score: Score of the whole image.
        roi: hxw bool of the same aspect ratio.

    Returns:
        The score map with zeros outside, and the image score, no larger than the largest score
        inside. Scores that are not finite stay so.
    """
    inside = np.where(resize_roi(roi, score_map.shape), score_map, np.float32(0))
    return inside, float(np.minimum(image_score, inside.max()))
