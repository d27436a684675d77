# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Image files as arrays: HxW grey or HxWx3 RGB, `uint8` or `uint16`."""

from pathlib import Path

import cv2
from flow_anomaly_ros.data.atomic import atomic_write
from flow_anomaly_ros.errors import error_summary
import numpy as np

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
_SUFFIXES_16_BIT = ('.png', '.tif', '.tiff')

_JPEG_START = b'\xff\xd8\xff'
_JPEG_SCAN = b'\xff\xda'
_JPEG_END = b'\xff\xd9'
_PNG_START = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'IEND'


class ImageReadError(ValueError):
    """An image file is unreadable; the message is one line with its path and the reason."""


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file.

    The format is detected from the content, not from the suffix. An alpha channel is dropped and a
    palette is expanded. The EXIF orientation is ignored, so that the pixels stay in the order of
    the camera.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP file.

    Returns:
        HxW for grey images or HxWx3 RGB for colour images, `uint8` or `uint16` as in the file.

    Raises:
        ImageReadError: The file is missing, empty, truncated, not an image, or of another data
            type.
    """
    path = Path(path)
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise _read_error(path, error.strerror or str(error)) from error
    if data.size == 0:
        raise _read_error(path, 'the file is empty')
    if is_truncated(data.tobytes()):
        raise _read_error(path, 'the file is truncated; copy or record it again')
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _read_error(path, error_summary(error)) from error
    if image is None or image.size == 0:
        raise _read_error(path, 'damaged or not an image; expected PNG, JPEG, BMP, TIFF or WebP')
    if image.dtype not in (np.uint8, np.uint16):
        raise _read_error(path, f'pixels are {image.dtype}; convert them to uint8 or uint16')
    if image.ndim == 2:
        return image
    return np.ascontiguousarray(image[..., 2::-1])


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image file atomically.

    Args:
        path: The file; its suffix selects the format. The folder must exist.
        image: HxW grey or HxWx3 RGB, `uint8`; for PNG and TIFF also `uint16`.

    Raises:
        ValueError: The suffix is unknown, the folder is missing, the array is not an image, or the
            format does not support 16 bits; one line.
        OSError: The file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise _write_error(
            path, f"unknown suffix '{suffix}'; use one of {' '.join(IMAGE_SUFFIXES)}"
        )
    if not path.parent.is_dir():
        raise _write_error(path, f'there is no folder {path.parent}; create it first')
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not is_image or image.size == 0 or image.dtype not in (np.uint8, np.uint16):
        array = f'{image.dtype} array of shape {image.shape}'
        raise _write_error(path, f'{array} is not an image; give uint8 or uint16, HxW or HxWx3')
    if image.dtype == np.uint16 and suffix not in _SUFFIXES_16_BIT:
        raise _write_error(path, f"'{suffix}' supports 8 bits only; use .png or .tif for uint16")

    encoded = cv2.imencode(suffix, image if image.ndim == 2 else image[..., ::-1])[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def list_images(folder: str | Path) -> list[Path]:
    """List the image files directly in a folder.

    Files are recognised by their suffix, in upper or lower case; hidden files are skipped.

    Args:
        folder: An existing folder.

    Returns:
        Paths sorted by name.

    Raises:
        OSError: The path is missing or is not a folder.
    """
    visible = (path for path in Path(folder).iterdir() if not path.name.startswith('.'))
    return sorted(p for p in visible if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def is_truncated(data: bytes) -> bool:
    """Return whether a JPEG or PNG lacks its end marker.

    This is checked before decoding: OpenCV 4 silently fills the missing part of a JPEG with grey,
    and libpng prints to stderr. In a JPEG only an end marker after the last scan counts, since an
    embedded thumbnail has its own.

    Args:
        data: Content of a file of any format.

    Returns:
        True for a truncated JPEG or PNG; False for complete ones and for all other formats.
    """
    if data.startswith(_JPEG_START):
        return data.find(_JPEG_END, max(data.rfind(_JPEG_SCAN), 0)) < 0
    return data.startswith(_PNG_START) and _PNG_END not in data


def _read_error(path: Path, why: str) -> ImageReadError:
    return ImageReadError(f'cannot read image {path}: {why}')


def _write_error(path: Path, why: str) -> ValueError:
    return ValueError(f'cannot write image {path}: {why}')
