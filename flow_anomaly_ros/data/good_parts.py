# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A folder that collects images of good parts."""

from pathlib import Path

from flow_anomaly_ros.data.images import list_images, read_image, write_image
import numpy as np


class GoodParts:
    """Images of good parts as PNG files, all of the same size, channel count and bit depth.

    Args:
        folder: The folder; created with the first image.

    Attributes:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def count(self) -> int:
        """Return the number of images in the folder."""
        return len(list_images(self.folder)) if self.folder.is_dir() else 0

    def path_of(self, stamp: int) -> Path:
        """Return the file of the image with timestamp `stamp`, in ns; it may not exist."""
        return self.folder / f'{stamp // 10**9}_{stamp % 10**9:09}.png'

    def add(self, image: np.ndarray, stamp: int) -> Path:
        """Write an image.

        Args:
            image: HxW or HxWx3 RGB, `uint8` or `uint16`.
            stamp: Timestamp of the image in ns.

        Returns:
            The file.

        Raises:
            ValueError: The file exists, the image differs in size, channel count or bit depth from
                those in the folder, or the file cannot be written; one line.
        """
        path = self.path_of(stamp)
        if path.exists():
            msg = f'an image with this stamp is already in {path}'
            raise ValueError(msg)
        self._require_same_format(image)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_image(path, image)
        except OSError as error:
            msg = f'cannot write {path}: {error.strerror}'
            raise ValueError(msg) from error
        return path

    def _require_same_format(self, image: np.ndarray) -> None:
        # Checked for every image: the folder may have been emptied for another camera.
        if not self.count():
            return
        first = read_image(list_images(self.folder)[0])
        if (first.shape, first.dtype) != (image.shape, image.dtype):
            msg = (
                f'the image is {_describe_format(image)}, but the images in {self.folder} are '
                f'{_describe_format(first)}: restore the camera settings or choose another folder'
            )
            raise ValueError(msg)


def _describe_format(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    channels = 'grey' if image.ndim == 2 else 'colour'
    return f'{width}x{height} px {channels}, {8 * image.dtype.itemsize} bit'
