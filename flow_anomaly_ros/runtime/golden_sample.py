# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The golden sample of a model file: the image of a good part, as a PNG in base 64."""

import base64
import binascii

import cv2
import numpy as np


def to_text(image: np.ndarray) -> str:
    """Encode an HxW or HxWx3 RGB uint8 image as text."""
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.png', pixels)
    return base64.b64encode(data.tobytes()).decode()


def to_image(text: str, size: tuple[int, int]) -> np.ndarray:
    """Decode what `to_text` encoded.

    Args:
        text: The text.
        size: (height, width) in px that the image must have.

    Raises:
        ValueError: The text is not such an image; one line.
    """
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (binascii.Error, cv2.error):
        pixels = None
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[:2] != size:
        msg = f'the golden sample in the manifest is not an image of {size[1]}x{size[0]} px'
        raise ValueError(msg)
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
