# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Every encoding, layout and kind of bad message, with and without cv_bridge."""

from array import array
import sys
from types import ModuleType, SimpleNamespace

import cv2
from flow_anomaly_ros.data import image_messages
from flow_anomaly_ros.data.image_messages import (
    compressed_to_array,
    conversion_backend,
    create_writable_message,
    ImageConversionError,
    score_map_to_array,
    to_array,
    to_message,
)
import numpy as np
import pytest

# Encoding -> stored order of the channels (y: grey) and bytes per value.
PACKED = {
    'mono8': ('y', 1),
    'rgb8': ('rgb', 1),
    'bgr8': ('bgr', 1),
    'rgba8': ('rgba', 1),
    'bgra8': ('bgra', 1),
    '8UC1': ('y', 1),
    '8UC3': ('bgr', 1),
    '8UC4': ('bgra', 1),
    'mono16': ('y', 2),
    'rgb16': ('rgb', 2),
    'bgr16': ('bgr', 2),
    'rgba16': ('rgba', 2),
    'bgra16': ('bgra', 2),
    '16UC1': ('y', 2),
    '16UC3': ('bgr', 2),
}
PATTERNS = ('rggb', 'bggr', 'gbrg', 'grbg')
BAYER = [f'bayer_{pattern}{bits}' for pattern in PATTERNS for bits in (8, 16)]
UYVY, YUYV = ('yuv422', 'uyvy'), ('yuv422_yuy2', 'yuyv')
EVERY_ENCODING = [*PACKED, *BAYER, *UYVY, *YUYV]

PIXELS = [
    [dict(y=1, r=10, g=20, b=30, a=7), dict(y=2, r=40, g=50, b=60, a=7)],
    [dict(y=3, r=70, g=80, b=90, a=7), dict(y=4, r=100, g=110, b=120, a=7)],
    [dict(y=5, r=130, g=140, b=150, a=7), dict(y=6, r=160, g=170, b=180, a=7)],
]


def image(encoding, rows, *, padding=0, is_bigendian=0):
    """Build a message from rows of bytes; a padded row ends in bytes that must not be seen."""
    data = b''.join(row + b'\xee' * padding for row in rows)
    return SimpleNamespace(
        height=len(rows),
        width=len(rows[0]) // pixel_bytes(encoding),
        encoding=encoding,
        step=len(rows[0]) + padding,
        is_bigendian=is_bigendian,
        data=array('B', data),
    )


def pixel_bytes(encoding):
    if encoding in PACKED:
        order, size = PACKED[encoding]
        return len(order) * size
    return 2 if encoding in (*UYVY, *YUYV) or encoding.endswith('16') else 1


def random_rows(encoding):
    rng = np.random.default_rng(3)
    return [rng.bytes(6 * pixel_bytes(encoding)) for _ in range(6)]


class WorkingBridge:
    """Does what the documentation of cv_bridge says for unpadded little-endian messages."""

    def __init__(self):
        self.read = []

    def imgmsg_to_cv2(self, msg, desired_encoding='passthrough'):
        assert desired_encoding == 'passthrough'
        if msg.encoding in ('uyvy', 'yuyv'):
            raise KeyError(msg.encoding)
        self.read.append(msg.encoding)
        values = np.frombuffer(msg.data, np.uint16 if '16' in msg.encoding else np.uint8)
        channels = values.size // (msg.height * msg.width)
        shape = (msg.height, msg.width, channels) if channels > 1 else (msg.height, msg.width)
        return values.reshape(shape)


class FailingBridge:
    def imgmsg_to_cv2(self, msg):
        raise KeyError(16)


class SwappingBridge(WorkingBridge):
    def imgmsg_to_cv2(self, msg):
        return super().imgmsg_to_cv2(msg)[::-1]


@pytest.fixture
def install_cv_bridge(monkeypatch):
    """Replace the installed cv_bridge by a class, or by nothing; return what the code then uses."""

    def install(bridge_class):
        module = ModuleType('cv_bridge')
        if bridge_class is not None:
            module.CvBridge = bridge_class
        monkeypatch.setitem(sys.modules, 'cv_bridge', module if bridge_class else None)
        image_messages._cv_bridge.cache_clear()
        return image_messages._cv_bridge()

    yield install
    image_messages._cv_bridge.cache_clear()


@pytest.fixture(params=[None, WorkingBridge], ids=['numpy', 'cv_bridge'])
def bridge(request, install_cv_bridge):
    return install_cv_bridge(request.param)


@pytest.mark.parametrize('encoding', PACKED)
@pytest.mark.parametrize(('padding', 'is_bigendian'), [(0, 0), (3, 0), (0, 1), (5, 1)])
def test_every_packed_encoding_is_converted(bridge, encoding, padding, is_bigendian):
    order, size = PACKED[encoding]
    byte_order = 'big' if is_bigendian else 'little'
    scale = 1 if size == 1 else 201  # makes the two bytes of a 16-bit value differ
    rows, expected = [], []
    for pixels in PIXELS:
        stored = [pixel[channel] * scale for pixel in pixels for channel in order]
        rows.append(b''.join(value.to_bytes(size, byte_order) for value in stored))
        wanted = 'y' if order == 'y' else 'rgb'
        expected.append([[pixel[channel] * scale for channel in wanted] for pixel in pixels])

    result = to_array(image(encoding, rows, padding=padding, is_bigendian=is_bigendian))

    assert result.shape == ((3, 2) if order == 'y' else (3, 2, 3))
    assert result.dtype == (np.uint8 if size == 1 else np.uint16)
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, np.array(expected).reshape(result.shape))


@pytest.mark.parametrize('encoding', BAYER)
@pytest.mark.parametrize('is_bigendian', [0, 1])
def test_a_bayer_mosaic_of_one_colour_is_converted(bridge, encoding, is_bigendian):
    scale, size = (1, 1) if encoding.endswith('8') else (250, 2)
    colour = {'r': 200 * scale, 'g': 100 * scale, 'b': 50 * scale}
    first, second = encoding[6:8], encoding[8:10]
    rows = [
        b''.join(colour[c].to_bytes(size, 'big' if is_bigendian else 'little') for c in pair * 3)
        for pair in (first, second) * 3
    ]

    result = to_array(image(encoding, rows, is_bigendian=is_bigendian))

    assert result.dtype == (np.uint8 if size == 1 else np.uint16)
    np.testing.assert_array_equal(result, np.broadcast_to(list(colour.values()), (6, 6, 3)))


# Luma and chroma of BT.601, limited range: https://en.wikipedia.org/wiki/YCbCr
@pytest.mark.parametrize(
    ('yuv', 'rgb'),
    [
        ((81, 90, 240), (255, 0, 0)),
        ((145, 54, 34), (0, 255, 0)),
        ((126, 128, 128), (128, 128, 128)),
    ],
)
@pytest.mark.parametrize('encoding', [*UYVY, *YUYV])
def test_a_yuv_image_of_one_colour_is_converted(bridge, encoding, yuv, rgb):
    y, u, v = yuv
    pair = bytes([u, y, v, y] if encoding in UYVY else [y, u, y, v])

    result = to_array(image(encoding, [pair * 2] * 3))

    assert result.shape == (3, 4, 3)
    np.testing.assert_allclose(result, np.broadcast_to(rgb, (3, 4, 3)), atol=2)


@pytest.mark.parametrize('encoding', EVERY_ENCODING)
@pytest.mark.parametrize('padding', [1, 8])
def test_padding_changes_nothing(bridge, encoding, padding):
    rows = random_rows(encoding)
    packed = to_array(image(encoding, rows))
    np.testing.assert_array_equal(to_array(image(encoding, rows, padding=padding)), packed)


@pytest.mark.parametrize('encoding', EVERY_ENCODING)
def test_cv_bridge_and_numpy_give_the_same(install_cv_bridge, encoding):
    msg = image(encoding, random_rows(encoding))
    assert install_cv_bridge(WorkingBridge) is not None
    by_cv_bridge = to_array(msg)
    assert install_cv_bridge(None) is None
    by_numpy = to_array(msg)
    assert by_cv_bridge.dtype == by_numpy.dtype
    np.testing.assert_array_equal(by_cv_bridge, by_numpy)


def test_a_working_cv_bridge_is_used_where_it_is_reliable(install_cv_bridge):
    bridge = install_cv_bridge(WorkingBridge)
    assert conversion_backend().startswith('cv_bridge ')

    bridge.read.clear()
    to_array(image('bgr8', random_rows('bgr8')))
    assert bridge.read == ['bgr8']

    bridge.read.clear()
    to_array(image('bgr8', random_rows('bgr8'), padding=2))
    to_array(image('mono16', random_rows('mono16'), is_bigendian=1))
    to_array(image('uyvy', random_rows('uyvy')))
    assert bridge.read == []


@pytest.mark.parametrize('broken', [None, FailingBridge, SwappingBridge])
def test_missing_or_broken_cv_bridge_is_not_used(install_cv_bridge, broken):
    assert install_cv_bridge(broken) is None
    assert conversion_backend() == 'numpy/OpenCV'
    msg = image('rgb8', [bytes([1, 2, 3]), bytes([4, 5, 6])])
    np.testing.assert_array_equal(to_array(msg), [[[1, 2, 3]], [[4, 5, 6]]])


@pytest.mark.ros
def test_installed_cv_bridge_gives_the_same_as_numpy(install_cv_bridge):
    pytest.importorskip('cv_bridge', exc_type=ImportError)
    image_messages._cv_bridge.cache_clear()
    if conversion_backend() == 'numpy/OpenCV':
        pytest.skip('the installed cv_bridge does not work with this numpy or OpenCV')
    messages = [image(encoding, random_rows(encoding)) for encoding in EVERY_ENCODING]
    by_cv_bridge = [to_array(msg) for msg in messages]
    install_cv_bridge(None)
    for msg, array_ in zip(messages, by_cv_bridge, strict=True):
        np.testing.assert_array_equal(array_, to_array(msg), err_msg=msg.encoding)


@pytest.mark.ros
def test_images_are_what_the_installed_cv_bridge_makes_of_them():
    cv_bridge = pytest.importorskip('cv_bridge', exc_type=ImportError)
    compared = []
    for encoding in EVERY_ENCODING:
        msg = image(encoding, random_rows(encoding))
        pixels = to_array(msg)
        wanted = f'{"rgb" if pixels.ndim == 3 else "mono"}{8 * pixels.itemsize}'
        try:
            expected = cv_bridge.CvBridge().imgmsg_to_cv2(msg, wanted)
        except (cv_bridge.CvBridgeError, KeyError):
            # It knows fewer encodings.
            continue
        np.testing.assert_array_equal(pixels, expected, err_msg=encoding)
        compared.append(encoding)
    assert {'mono8', 'rgb8', 'bgr8', 'bgra8', 'mono16', 'bayer_rggb8'} <= set(compared)


@pytest.mark.parametrize('encoding', ['mono8', 'rgb8', 'mono16', 'rgb16'])
def test_pixels_are_copied_only_if_necessary(bridge, encoding):
    msg = image(encoding, random_rows(encoding))
    assert np.shares_memory(to_array(msg), np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize('buffer', [bytes, lambda data: np.frombuffer(data, np.uint8)])
def test_read_only_buffers_can_be_converted(bridge, buffer):
    msg = image('bgr8', random_rows('bgr8'))
    expected = to_array(msg)
    msg.data = buffer(bytes(msg.data))
    np.testing.assert_array_equal(to_array(msg), expected)


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'encoding': 'rgb9'}, r"encoding 'rgb9' is not supported: publish one of mono8, rgb8, "),
        ({'encoding': ''}, r"encoding '' is not supported: publish one of "),
        ({'encoding': '32FC1'}, r"encoding '32FC1' is floating-point .*: use a colour"),
        ({'width': 0}, r'bgr8 image of 0x2 pixels is empty: check the publisher'),
        ({'height': 0}, r'bgr8 image of 4x0 pixels is empty: check the publisher'),
        ({'step': 11}, r'bgr8 image of 4x2 pixels has a step of 11 bytes, but a row takes 12: '),
        ({'step': 0}, r'bgr8 image of 4x2 pixels has a step of 0 bytes, but a row takes 12: '),
        ({'step': 13}, r'bgr8 image of 4x2 pixels has 24 bytes, but step x height is 26: '),
        ({'data': array('B')}, r'bgr8 image of 4x2 pixels has 0 bytes, but step x height is 24: '),
        ({'encoding': 'uyvy', 'width': 3}, r'uyvy image of 3x2 pixels has an odd width, .*even'),
    ],
)
def test_an_invalid_message_is_refused_in_one_line(bridge, changes, line):
    msg = image('bgr8', [bytes(12)] * 2)
    vars(msg).update(changes)
    with pytest.raises(ImageConversionError, match=line) as error:
        to_array(msg)
    assert '\n' not in str(error.value)


def compressed(array_, extension, description):
    data = cv2.imencode(extension, array_)[1].tobytes()
    return SimpleNamespace(format=description, data=array('B', data))


def test_compressed_colours_are_rgb():
    bgr = np.zeros((16, 16, 3), np.uint8)
    bgr[...] = (30, 120, 210)
    png = compressed_to_array(compressed(bgr, '.png', 'png'))
    jpeg = compressed_to_array(compressed(bgr, '.jpg', 'rgb8; jpeg compressed bgr8'))
    np.testing.assert_array_equal(png, np.broadcast_to((210, 120, 30), (16, 16, 3)))
    np.testing.assert_allclose(jpeg, png, atol=3)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_compressed_keeps_grey_and_depth_and_drops_alpha(dtype):
    grey = np.arange(12, dtype=dtype).reshape(3, 4) * 20
    rgba = np.stack([grey, grey + 1, grey + 2, grey], axis=-1)
    decoded_grey = compressed_to_array(compressed(grey, '.png', 'mono8; png compressed '))
    decoded_rgba = compressed_to_array(compressed(rgba, '.png', 'png'))
    assert decoded_grey.dtype == decoded_rgba.dtype == dtype
    np.testing.assert_array_equal(decoded_grey, grey)
    np.testing.assert_array_equal(decoded_rgba, rgba[..., 2::-1])


def test_compressed_bayer_mosaic_becomes_colour():
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (3, 3))
    result = compressed_to_array(compressed(mosaic, '.png', 'bayer_rggb8; png compressed '))
    np.testing.assert_array_equal(result, np.broadcast_to((200, 100, 50), (6, 6, 3)))


def test_compressed_pixels_stay_where_the_camera_put_them():
    msg = compressed(np.zeros((8, 16, 3), np.uint8), '.jpg', 'jpeg')
    entry = b'\x01\x12\0\x03\0\0\0\x01\0\x06\0\0'  # orientation 6: turn right to display
    turned_right = b'\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01' + entry + bytes(4)
    data = bytes(msg.data)
    msg.data = array('B', data[:2] + turned_right + data[2:])
    assert cv2.imdecode(np.array(msg.data), cv2.IMREAD_COLOR).shape == (16, 8, 3)
    assert compressed_to_array(msg).shape == (8, 16, 3)


@pytest.mark.parametrize(
    ('msg', 'line'),
    [
        (
            SimpleNamespace(format='jpeg', data=array('B')),
            r"'jpeg', 0 bytes\) is not a complete .* image",
        ),
        (SimpleNamespace(format='h264', data=array('B', [9] * 50)), "'h264', 50 bytes"),
        (compressed(np.ones((4, 4), np.float32), '.tiff', 'tiff'), r'8-bit .*jpeg or png'),
    ],
)
def test_an_invalid_compressed_message_is_refused_in_one_line(msg, line):
    with pytest.raises(ImageConversionError, match=line) as error:
        compressed_to_array(msg)
    assert '\n' not in str(error.value)


@pytest.fixture
def header():
    pytest.importorskip('sensor_msgs')
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    return Header(stamp=Time(sec=12, nanosec=34), frame_id='camera_1')


@pytest.mark.ros
@pytest.mark.parametrize(
    ('encoding', 'dtype', 'shape'),
    [
        ('mono8', np.uint8, (4, 6)),
        ('mono16', np.uint16, (4, 6)),
        ('rgb8', np.uint8, (4, 6, 3)),
        ('bgr8', np.uint8, (4, 6, 3)),
        ('32FC1', np.float32, (4, 6)),
    ],
)
@pytest.mark.parametrize('contiguous', [True, False])
def test_an_array_is_converted_to_a_message(header, encoding, dtype, shape, contiguous):
    values = np.arange(np.prod(shape), dtype=dtype).reshape(shape) + dtype(0.5)
    values = values if contiguous else values[::-1, ::-1]

    msg = to_message(values, encoding, header)

    assert (msg.height, msg.width, msg.encoding, msg.is_bigendian) == (4, 6, encoding, 0)
    assert msg.step == len(msg.data) // 4 == values[0].nbytes
    assert msg.header == header
    np.testing.assert_array_equal(np.array(msg.data).view(dtype).reshape(shape), values)


@pytest.mark.ros
@pytest.mark.parametrize(('encoding', 'order'), [('rgb8', 1), ('bgr8', -1)])
def test_a_message_survives_a_round_trip(header, encoding, order):
    values = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    result = to_array(to_message(values, encoding, header))
    np.testing.assert_array_equal(result, values[..., ::order])


@pytest.mark.ros
@pytest.mark.parametrize(
    ('encoding', 'values', 'line'),
    [
        ('rgba8', np.zeros((2, 2, 4), np.uint8), "as 'rgba8': use one of mono8, rgb8, bgr8,"),
        ('mono8', np.zeros((2, 2), bool), 'mono8 takes an HxW array of uint8, not bool of shape'),
        (
            'mono8',
            np.zeros((2, 2, 1), np.uint8),
            r'array of uint8, not uint8 of shape \(2, 2, 1\)',
        ),
        ('mono8', np.zeros(4, np.uint8), r'HxW array of uint8, not uint8 of shape \(4,\)'),
        ('bgr8', np.zeros((2, 2), np.uint8), r'bgr8 takes an HxWx3 array of uint8, not uint8 of'),
        ('bgr8', np.zeros((0, 2, 3), np.uint8), r'not uint8 of shape \(0, 2, 3\)'),
        ('32FC1', np.zeros((2, 2)), '32FC1 takes an HxW array of float32, not float64 of shape'),
    ],
)
def test_an_array_that_does_not_match_the_encoding_is_refused(header, encoding, values, line):
    with pytest.raises(ImageConversionError, match=line):
        to_message(values, encoding, header)


@pytest.mark.ros
@pytest.mark.parametrize(
    ('encoding', 'shape', 'dtype'),
    [('mono8', (3, 5), np.uint8), ('32FC1', (3, 5), np.float32), ('bgr8', (3, 5, 3), np.uint8)],
)
def test_what_is_written_to_the_array_is_in_the_message(header, encoding, shape, dtype):
    message, canvas = create_writable_message(shape, encoding)
    for start in (1, 50):
        values = np.arange(start, start + np.prod(shape)).astype(dtype).reshape(shape)
        canvas[...] = values
        assert bytes(message.data) == bytes(to_message(values, encoding, header).data)
    assert (message.height, message.width, message.encoding) == (3, 5, encoding)


@pytest.mark.parametrize(('padding', 'is_bigendian'), [(0, 0), (8, 0), (0, 1), (4, 1)])
def test_a_score_map_is_read_whatever_its_rows_and_byte_order(padding, is_bigendian):
    scores = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    stored = scores.astype('>f4' if is_bigendian else '<f4')
    msg = SimpleNamespace(
        height=3,
        width=4,
        encoding='32FC1',
        step=16 + padding,
        is_bigendian=is_bigendian,
        data=array('B', b''.join(row.tobytes() + b'\xee' * padding for row in stored)),
    )
    result = score_map_to_array(msg)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, scores)


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'encoding': 'mono8'}, "score map has encoding 'mono8': it must be 32FC1"),
        ({'step': 15}, '32FC1 image of 4x1 pixels has a step of 15 bytes, but a row takes 16: '),
        ({'height': 2}, '32FC1 image of 4x2 pixels has 16 bytes, but step x height is 32: '),
    ],
)
def test_a_bad_score_map_is_refused_in_one_line(changes, line):
    fields = {'height': 1, 'width': 4, 'encoding': '32FC1', 'step': 16, 'is_bigendian': 0}
    msg = SimpleNamespace(**fields, data=array('B', bytes(16)))
    vars(msg).update(changes)
    with pytest.raises(ImageConversionError, match=line) as error:
        score_map_to_array(msg)
    assert '\n' not in str(error.value)


def test_real_messages_are_converted():
    messages = pytest.importorskip('sensor_msgs.msg')
    data = array('B', [30, 20, 10, 60, 50, 40])
    msg = messages.Image(height=1, width=2, encoding='bgr8', step=6, data=data)
    np.testing.assert_array_equal(to_array(msg), [[[10, 20, 30], [40, 50, 60]]])

    with pytest.raises(ImageConversionError, match="encoding '' is not supported"):
        to_array(messages.Image())
    with pytest.raises(ImageConversionError, match='0 bytes'):
        compressed_to_array(messages.CompressedImage())
