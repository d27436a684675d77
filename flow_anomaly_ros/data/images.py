# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Image files: one array convention in, the same out, and one clear line where a file is bad."""

from pathlib import Path

import cv2
from flow_anomaly_ros.data.atomic import atomic_write
import numpy as np

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
_SUFFIXES_16_BIT = ('.png', '.tif', '.tiff')

_JPEG_START = b'\xff\xd8\xff'
_JPEG_SCAN = b'\xff\xda'
_JPEG_END = b'\xff\xd9'
_PNG_START = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'IEND'


class ImageReadError(ValueError):
    """An image file that cannot be used; the message is one line with its path and the reason."""


def read_image(path: str | Path) -> np.ndarray:
    """Read one image file.

    The bytes decide the format, not the suffix. An alpha channel is dropped, a palette expanded;
    the EXIF orientation is not applied, so that pixels stay where the camera put them.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP file.

    Returns:
        `uint8` or `uint16` array, HxW for grey images and HxWx3 RGB for colour, as stored.

    Raises:
        ImageReadError: The file is missing, empty, cut off, not an image, or of another depth.
    """
    path = Path(path)
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if data.size == 0:
        raise _unreadable(path, 'the file is empty')
    if is_cut_off(data.tobytes()):
        raise _unreadable(path, 'the file is cut off; copy or record it again')
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _unreadable(path, ' '.join(str(error).split())) from error
    if image is None or image.size == 0:
        raise _unreadable(path, 'damaged, or no image; expected PNG, JPEG, BMP, TIFF or WebP')
    if image.dtype not in (np.uint8, np.uint16):
        raise _unreadable(path, f'pixels are {image.dtype}; convert them to uint8 or uint16')
    if image.ndim == 2:
        return image
    return np.ascontiguousarray(image[..., 2::-1])


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write one image file, whole or not at all.

    Args:
        path: Where to; the suffix chooses the format. The folder must exist.
        image: HxW grey or HxWx3 RGB, `uint8`; `uint16` for PNG and TIFF only.

    Raises:
        ValueError: The suffix is not known, the folder is missing, the array is not such an image,
            or the format cannot hold 16 bit.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise _unwritable(path, f"unknown suffix '{suffix}'; use one of {' '.join(IMAGE_SUFFIXES)}")
    if not path.parent.is_dir():
        raise _unwritable(path, f'there is no folder {path.parent}; create it first')
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not is_image or image.size == 0 or image.dtype not in (np.uint8, np.uint16):
        got = f'{image.dtype} of shape {image.shape}'
        raise _unwritable(path, f'{got} is no image; give uint8 or uint16, HxW or HxWx3')
    if image.dtype == np.uint16 and suffix not in _SUFFIXES_16_BIT:
        raise _unwritable(path, f"'{suffix}' holds 8 bit only; use .png or .tif for uint16")

    encoded = cv2.imencode(suffix, image if image.ndim == 2 else image[..., ::-1])[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def list_images(folder: str | Path) -> list[Path]:
    """List the image files directly in a folder, by suffix in any case, hidden ones left out.

    Args:
        folder: An existing folder.

    Returns:
        Paths sorted by name.

    Raises:
        OSError: The folder is missing or not a folder.
    """
    visible = (path for path in Path(folder).iterdir() if not path.name.startswith('.'))
    return sorted(p for p in visible if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def is_cut_off(data: bytes) -> bool:
    """Tell whether a JPEG or PNG lacks its end mark.

    Asked before decoding because OpenCV 4 fills the missing part of a JPEG with grey and says
    nothing, and because libpng prints to stderr. The end mark of a JPEG is looked for after the
    last scan, since an embedded thumbnail has one of its own.
    """
    if data.startswith(_JPEG_START):
        return data.find(_JPEG_END, max(data.rfind(_JPEG_SCAN), 0)) < 0
    return data.startswith(_PNG_START) and _PNG_END not in data


def _unreadable(path: Path, why: str) -> ImageReadError:
    return ImageReadError(f'cannot read image {path}: {why}')


def _unwritable(path: Path, why: str) -> ValueError:
    return ValueError(f'cannot write image {path}: {why}')
