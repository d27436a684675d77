# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Conversion between ROS image messages and numpy arrays.

Encodings are those of ``sensor_msgs/image_encodings.hpp``. The OpenCV types ``8UC3``, ``8UC4``,
``16UC3`` name no colour order; they are read as BGR and BGRA, the order that OpenCV itself uses.

A message is read by ``cv_bridge`` if that is installed and works, by numpy otherwise. OpenCV
converts the colours in both cases, so that both give the same array. ``cv_bridge`` does not convert
them: its binary part, built against NumPy 1, may crash when it gets an array of NumPy 2
(https://github.com/ros-perception/vision_opencv/issues/535), which no self-test could detect.
"""

import contextlib
import functools
import importlib.metadata
from types import SimpleNamespace
from typing import Any, NamedTuple, TYPE_CHECKING

import cv2
from flow_anomaly_ros.data.images import is_truncated
import numpy as np

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header


class ImageConversionError(ValueError):
    """An image cannot be converted; the message says why and what to do, in one line."""


class _Layout(NamedTuple):
    """How an encoding stores one pixel, and the OpenCV code to RGB (None: grey or RGB already)."""

    dtype: type[np.generic]
    channels: int
    to_rgb: int | None = None
    in_cv_bridge: bool = True

    @property
    def pixel_bytes(self) -> int:
        return self.channels * np.dtype(self.dtype).itemsize


_LAYOUTS = {
    'mono8': _Layout(np.uint8, 1),
    'rgb8': _Layout(np.uint8, 3),
    'bgr8': _Layout(np.uint8, 3, cv2.COLOR_BGR2RGB),
    'rgba8': _Layout(np.uint8, 4, cv2.COLOR_RGBA2RGB),
    'bgra8': _Layout(np.uint8, 4, cv2.COLOR_BGRA2RGB),
    '8UC1': _Layout(np.uint8, 1),
    '8UC3': _Layout(np.uint8, 3, cv2.COLOR_BGR2RGB),
    '8UC4': _Layout(np.uint8, 4, cv2.COLOR_BGRA2RGB),
    'mono16': _Layout(np.uint16, 1),
    'rgb16': _Layout(np.uint16, 3),
    'bgr16': _Layout(np.uint16, 3, cv2.COLOR_BGR2RGB),
    'rgba16': _Layout(np.uint16, 4, cv2.COLOR_RGBA2RGB),
    'bgra16': _Layout(np.uint16, 4, cv2.COLOR_BGRA2RGB),
    '16UC1': _Layout(np.uint16, 1),
    '16UC3': _Layout(np.uint16, 3, cv2.COLOR_BGR2RGB),
    # OpenCV's older constants name these after the second row: rggb is 'BG'.
    'bayer_rggb8': _Layout(np.uint8, 1, cv2.COLOR_BayerRGGB2RGB),
    'bayer_bggr8': _Layout(np.uint8, 1, cv2.COLOR_BayerBGGR2RGB),
    'bayer_gbrg8': _Layout(np.uint8, 1, cv2.COLOR_BayerGBRG2RGB),
    'bayer_grbg8': _Layout(np.uint8, 1, cv2.COLOR_BayerGRBG2RGB),
    'bayer_rggb16': _Layout(np.uint16, 1, cv2.COLOR_BayerRGGB2RGB),
    'bayer_bggr16': _Layout(np.uint16, 1, cv2.COLOR_BayerBGGR2RGB),
    'bayer_gbrg16': _Layout(np.uint16, 1, cv2.COLOR_BayerGBRG2RGB),
    'bayer_grbg16': _Layout(np.uint16, 1, cv2.COLOR_BayerGRBG2RGB),
    # 4:2:2, two bytes per pixel, ITU-R BT.601 limited range. cv_bridge has only the older names.
    'yuv422': _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY, in_cv_bridge=False),
    'yuv422_yuy2': _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_YUYV),
    'yuyv': _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_YUYV, in_cv_bridge=False),
}

# Encodings that the nodes publish.
_PUBLISHED = {name: _LAYOUTS[name] for name in ('mono8', 'rgb8', 'bgr8', 'mono16')}
_PUBLISHED['32FC1'] = _Layout(np.float32, 1)


def message_to_array(msg: 'Image | CompressedImage') -> np.ndarray:
    """Convert an image message of either type; see `to_array` and `compressed_to_array`."""
    return to_array(msg) if hasattr(msg, 'encoding') else compressed_to_array(msg)


def to_array(msg: 'Image') -> np.ndarray:
    """Convert an image message into a grey or RGB array.

    Args:
        msg: ``sensor_msgs/Image``, or any object with its fields; ``data`` is a buffer of bytes.
            Rows may be padded, 16-bit values may be big-endian.

    Returns:
        HxW (grey) or HxWx3 (RGB), ``uint8`` in [0, 255] or ``uint16`` in [0, 65535]; no alpha.
        A grey or RGB message without padding, in this machine's byte order, gives a **view** of
        ``msg.data``: copy it before changing it. Everything else is a new array.

    Raises:
        ImageConversionError: Unsupported encoding, zero size, or rows or data that are too short.
    """
    layout = _layout_of(msg.encoding)
    _require_consistent_size(msg, layout)
    pixels = _read_pixels(msg, layout)
    return pixels if layout.to_rgb is None else cv2.cvtColor(pixels, layout.to_rgb)


def compressed_to_array(msg: 'CompressedImage') -> np.ndarray:
    """Decode a compressed image message (JPEG, PNG or another format that OpenCV reads).

    The pixels stay where the camera put them: an EXIF orientation is not applied.

    Args:
        msg: ``sensor_msgs/CompressedImage``, or any object with ``format`` and ``data``.

    Returns:
        A new array: HxW (grey) or HxWx3 (RGB), ``uint8`` or ``uint16``; alpha is dropped.

    Raises:
        ImageConversionError: No data, or data that is not such an image.
    """
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = None
    # OpenCV 4 would fill the missing part of an image with grey.
    if not is_truncated(bytes(msg.data)):
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(msg.data, np.uint8), flags)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        name = f"compressed image (format '{msg.format}', {len(msg.data)} bytes)"
        text = (
            f'{name} is not a complete 8-bit or 16-bit image that OpenCV reads: publish jpeg or png'
        )
        raise ImageConversionError(text)
    if image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    # image_transport compresses Bayer mosaics without conversion: 'bayer_rggb8; png compressed '.
    source = _LAYOUTS.get(msg.format.split(';')[0])
    if source and source.channels == 1 and source.to_rgb is not None:
        return cv2.cvtColor(image, source.to_rgb)
    return image


def score_map_to_array(msg: 'Image') -> np.ndarray:
    """Convert a score map message, as the detector node publishes it, into an array.

    Args:
        msg: ``sensor_msgs/Image`` of encoding ``32FC1``; rows may be padded, values big-endian.

    Returns:
        HxW ``float32``; a **view** of ``msg.data`` where possible, as with `to_array`.

    Raises:
        ImageConversionError: Another encoding, zero size, or rows or data that are too short.
    """
    if msg.encoding != '32FC1':
        text = f"score map has encoding '{msg.encoding}': it must be 32FC1"
        raise ImageConversionError(text)
    layout = _PUBLISHED[msg.encoding]
    _require_consistent_size(msg, layout)
    return _read_by_numpy(msg, layout)


def to_message(array: np.ndarray, encoding: str, header: 'Header') -> 'Image':
    """Make an image message from an array.

    Args:
        array: HxW ``uint8`` (``mono8``), ``uint16`` (``mono16``) or ``float32`` (``32FC1``), or
            HxWx3 ``uint8`` in the order of the encoding (``rgb8``, ``bgr8``); nothing is converted.
        encoding: One of those in parentheses.
        header: Header of the message, usually that of the image that the array was computed from.

    Returns:
        A little-endian message without padding that holds a copy of the pixels.

    Raises:
        ImageConversionError: The encoding is not one of these, or the array does not fit it.
    """
    from sensor_msgs.msg import Image

    layout = _PUBLISHED.get(encoding)
    if layout is None:
        text = f"cannot make an image message as '{encoding}': use one of {', '.join(_PUBLISHED)}"
        raise ImageConversionError(text)
    channels = () if layout.channels == 1 else (layout.channels,)
    is_image = array.ndim == 2 + len(channels) and array.shape[2:] == channels and array.size
    if not is_image or array.dtype != layout.dtype:
        wanted = f'HxW{"x3" if channels else ""} array of {np.dtype(layout.dtype)}'
        text = f'{encoding} takes an {wanted}, not {array.dtype} of shape {array.shape}'
        raise ImageConversionError(text)

    msg = Image(header=header, height=array.shape[0], width=array.shape[1], encoding=encoding)
    msg.step = msg.width * layout.pixel_bytes
    little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder('<'))
    # Assigning bytes, a list or an array to msg.data is up to 500 times slower.
    msg.data.frombytes(little_endian.data.cast('B'))
    return msg


def create_writable_message(shape: tuple[int, ...], encoding: str) -> tuple['Image', np.ndarray]:
    """Make an image message and an array of its pixels, for repeated use.

    Args:
        shape: (height, width) of a grey image, (height, width, 3) of a colour image.
        encoding: As in `to_message`.

    Returns:
        A black image with an empty header, and a writable array that shares its memory.
    """
    from std_msgs.msg import Header

    message = to_message(np.zeros(shape, _PUBLISHED[encoding].dtype), encoding, Header())
    return message, np.frombuffer(message.data, _PUBLISHED[encoding].dtype).reshape(shape)


def conversion_backend() -> str:
    """Return what reads image messages: ``'cv_bridge <version>'`` or ``'numpy/OpenCV'``."""
    if _cv_bridge() is None:
        return 'numpy/OpenCV'
    try:
        return f'cv_bridge {importlib.metadata.version("cv_bridge")}'
    except importlib.metadata.PackageNotFoundError:
        return 'cv_bridge (unknown version)'


def _layout_of(encoding: str) -> _Layout:
    """Look up an encoding; raises ImageConversionError if it is not that of a camera image."""
    if encoding.startswith(('32F', '64F')):
        text = f"image encoding '{encoding}' is floating-point (depth?): use a colour or grey topic"
        raise ImageConversionError(text)
    if encoding not in _LAYOUTS:
        text = f"image encoding '{encoding}' is not supported: publish one of {', '.join(_LAYOUTS)}"
        raise ImageConversionError(text)
    return _LAYOUTS[encoding]


def _require_consistent_size(msg: Any, layout: _Layout) -> None:
    """Raise ImageConversionError if size, step and data of a message do not fit its encoding."""
    if problem := _size_problem(msg, layout):
        text = f'{msg.encoding} image of {msg.width}x{msg.height} pixels {problem}'
        raise ImageConversionError(text)


def _size_problem(msg: Any, layout: _Layout) -> str | None:
    if not msg.width or not msg.height:
        return 'is empty: check the publisher'
    if layout.channels == 2 and msg.width % 2:
        return 'has an odd width, but YUV 4:2:2 stores pixels in pairs: make it even'
    row = msg.width * layout.pixel_bytes
    if msg.step < row:
        return f'has a step of {msg.step} bytes, but a row takes {row}: correct the publisher'
    size = msg.step * msg.height
    if len(msg.data) < size:
        return f'has {len(msg.data)} bytes, but step x height is {size}: correct the publisher'
    return None


def _read_pixels(msg: Any, layout: _Layout) -> np.ndarray:
    """Read the stored channels of a checked message, by cv_bridge where that is reliable.

    It is not for padded rows, nor for big-endian data (it calls ``ndarray.newbyteorder``, which
    NumPy 2 no longer has).
    """
    packed = msg.step == msg.width * layout.pixel_bytes
    if packed and not msg.is_bigendian and layout.in_cv_bridge and (bridge := _cv_bridge()):
        return bridge.imgmsg_to_cv2(msg)
    return _read_by_numpy(msg, layout)


def _read_by_numpy(msg: Any, layout: _Layout) -> np.ndarray:
    """Return HxW or HxWxC in this machine's byte order, without a copy if possible."""
    dtype = np.dtype(layout.dtype)
    shape = (msg.height, msg.width, layout.channels)
    strides = (msg.step, layout.pixel_bytes, dtype.itemsize)
    stored = dtype.newbyteorder('>' if msg.is_bigendian else '<')
    pixels = np.ndarray(shape, stored, buffer=msg.data, strides=strides)
    return np.ascontiguousarray(pixels[..., 0] if layout.channels == 1 else pixels, dtype)


@functools.cache
def _cv_bridge() -> Any | None:
    """Return a ``CvBridge`` that reads every encoding as numpy does, or None.

    It may be missing, or fail on import or on an image with the installed NumPy and OpenCV.
    """
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        for encoding, layout in _LAYOUTS.items():
            step = 4 * layout.pixel_bytes
            sample = SimpleNamespace(height=2, width=4, step=step, encoding=encoding)
            sample.is_bigendian, sample.data = 0, bytes(range(2 * step))
            expected = _read_by_numpy(sample, layout)
            if layout.in_cv_bridge and not np.array_equal(bridge.imgmsg_to_cv2(sample), expected):
                return None
    except Exception:
        return None
    return bridge
