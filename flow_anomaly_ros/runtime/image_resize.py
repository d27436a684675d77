# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Resizing of 8-bit camera images, by the rule of `layers.resample` and in integer grey levels."""

import cv2
from flow_anomaly_ros.layers.resample import resize
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a camera image as `resize` does, over ten times faster than in floating point.

    Args:
        image: HxW or HxWxC uint8.
        size: Target (height, width) in px.

    Returns:
        heightxwidth or heightxwidthxC uint8.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    if height % size[0] == 0 and width % size[1] == 0:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    planes = torch.from_numpy(image if image.ndim == 3 else image[..., None]).permute(2, 0, 1)
    shrinks = size[0] < height or size[1] < width
    resized = _interpolate(planes[None], size, antialias=shrinks)
    return resized[0].permute(1, 2, 0).numpy().reshape(*size, *image.shape[2:])


def resize_levels(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize integer grey levels as `resize_image` does, on any device.

    Args:
        pixels: BxCxHxW float32 tensor of integers, 0 to 255.
        size: Target (height, width) in px.

    Returns:
        BxCxheightxwidth float32 tensor of integers.
    """
    height, width = pixels.shape[-2:]
    if height % size[0] == 0 and width % size[1] == 0:
        resized = resize(pixels, size)
        # OpenCV has special code for blocks of 2x2, which rounds halves up.
        is_half = (height, width) == (2 * size[0], 2 * size[1])
        return (resized + 0.5).floor() if is_half else resized.round()
    # PyTorch resizes uint8 along the rows first and rounds that result to uint8 too.
    shrinks = size[0] < height or size[1] < width
    for step_size in ((height, size[1]), size):
        pixels = (_interpolate(pixels, step_size, antialias=shrinks) + 0.5).floor()
    return pixels


def _interpolate(pixels: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    return functional.interpolate(
        pixels, size=size, mode='bilinear', align_corners=False, antialias=antialias
    )
