# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Camera images to what detectors take: one resize, one conversion of colours."""

from flow_anomaly_ros.layers.resample import resize
from flow_anomaly_ros.runtime.image_resize import resize_image, resize_levels
import numpy as np
import torch
from torch import Tensor

# ITU-R BT.601, as OpenCV's RGB to grey conversion.
LUMA = (0.299, 0.587, 0.114)
# Of the bits that cameras have; many send 10 or 12 of them in 16 as they are.
MAX_VALUES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))


def max_value_of(image: np.ndarray) -> int:
    """Estimate the maximum value of a uint16 camera from one of its images.

    Returns:
        The lowest of `MAX_VALUES` that no pixel exceeds; the highest where it is uint8.
    """
    if image.dtype == np.uint8:
        return MAX_VALUES[-1]
    highest = image.max()
    return next(level for level in MAX_VALUES if level >= highest)


def to_tensor(
    image: np.ndarray,
    channels: int,
    size: tuple[int, int],
    device: torch.device,
    max_value: int = MAX_VALUES[-1],
) -> Tensor:
    """Turn a camera image into a detector's input.

    Args:
        image: HxW or HxWx3 RGB array, uint8 or uint16.
        channels: 1 or 3; grey is repeated, colour is reduced to luma.
        size: Target (height, width).
        device: Where to.
        max_value: Maximum value of uint16 images, 1.0 inside; higher values are clipped.

    Returns:
        1xCxheightxwidth float32 in [0, 1].

    Raises:
        ValueError: Another shape or type.
    """
    require_image(image)
    is_bytes = image.dtype == np.uint8
    scale = 255.0 if is_bytes else float(max_value)
    array = _owned(image)
    if device.type == 'cuda':
        # The device resizes faster, and bytes are few.
        host = torch.from_numpy(array if is_bytes else array.astype(np.float32)).pin_memory()
        pixels = host.to(device, non_blocking=True).float()
    else:
        # torch has few operations on uint16.
        array = resize_image(array, size) if is_bytes else array
        pixels = torch.from_numpy(array.astype(np.float32)).to(device)
    pixels = pixels[None, None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)[None]
    pixels = resize_levels(pixels, size) if is_bytes else resize(pixels, size)
    return convert_colours((pixels / scale).clamp(0, 1), channels)


def to_rgb(image: np.ndarray, size: tuple[int, int], max_value: int = MAX_VALUES[-1]) -> np.ndarray:
    """Turn a camera image into the input of an exported model.

    Args:
        image: HxW or HxWx3 RGB array, uint8 or uint16, of which the upper 8 bits are kept.
        size: Target (height, width).
        max_value: Maximum value of uint16 images, 1.0 inside; higher values are clipped.

    Returns:
        heightxwidthx3 uint8; grey is repeated.

    Raises:
        ValueError: Another shape or type.
    """
    require_image(image)
    image = to_uint8(image, max_value)
    resized = resize_image(_owned(image), size)
    return resized if resized.ndim == 3 else np.repeat(resized[..., None], 3, axis=2)


def to_uint8(image: np.ndarray, max_value: int) -> np.ndarray:
    """Scale a uint16 image to uint8 by its maximum value, rounded to the nearest level."""
    if image.dtype == np.uint8:
        return image
    return np.round(image * (255.0 / max_value)).clip(max=255).astype(np.uint8)


def convert_colours(pixels: Tensor, channels: int) -> Tensor:
    """Repeat Bx1xHxW grey images, or reduce Bx3xHxW colour ones to luma, where there is need."""
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    red, green, blue = (
        weight * plane for weight, plane in zip(LUMA, pixels.split(1, 1), strict=True)
    )
    return red + green + blue


def size_of(image: np.ndarray) -> tuple[int, int]:
    """Height and width of an image in px."""
    height, width = image.shape[:2]
    return height, width


def require_image(image: np.ndarray) -> None:
    """Check that an array is an image.

    Raises:
        ValueError: It is not HxW or HxWx3, uint8 or uint16; one line.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.size == 0:
        msg = f'an image must hold uint8 or uint16 pixels, not {image.dtype} {image.shape}'
        raise ValueError(msg)
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        msg = f'an image must be HxW (grey) or HxWx3 (RGB), not {image.shape}'
        raise ValueError(msg)


def _owned(image: np.ndarray) -> np.ndarray:
    """Return an image that torch takes; it warns of arrays that it must not write to."""
    return image if image.flags.writeable and image.flags.c_contiguous else image.copy()
