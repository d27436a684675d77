# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A folder that images of good parts are collected in."""

from pathlib import Path

from flow_anomaly_ros.data.images import list_images, read_image, write_image
import numpy as np


class GoodParts:
    """Collects images of good parts as PNG files, all of one size, channel count and depth.

    Args:
        folder: Where they are; made with the first image.

    Attributes:
        folder: The same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def count(self) -> int:
        """Images that are there."""
        return len(list_images(self.folder)) if self.folder.is_dir() else 0

    def path_of(self, stamp: int) -> Path:
        """The file of the image that was taken at `stamp`, in nanoseconds."""
        return self.folder / f'{stamp // 10**9}_{stamp % 10**9:09}.png'

    def add(self, image: np.ndarray, stamp: int) -> Path:
        """Write an image.

        Args:
            image: HxW or HxWx3 RGB, uint8 or uint16.
            stamp: When it was taken, in nanoseconds.

        Returns:
            The file.

        Raises:
            ValueError: It is there already, is not like those that are there, or cannot be
                written; one line.
        """
        path = self.path_of(stamp)
        if path.exists():
            msg = f'{path} is there already'
            raise ValueError(msg)
        self._require_alike(image)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_image(path, image)
        except OSError as error:
            msg = f'cannot write {path}: {error.strerror}'
            raise ValueError(msg) from error
        return path

    def _require_alike(self, image: np.ndarray) -> None:
        # Every time: somebody may have emptied the folder for another camera.
        if not self.count():
            return
        first = read_image(list_images(self.folder)[0])
        if (first.shape, first.dtype) != (image.shape, image.dtype):
            msg = (
                f'the image is {_describe(image)}, but those in {self.folder} are '
                f'{_describe(first)}: restore the camera settings or choose another folder'
            )
            raise ValueError(msg)


def _describe(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    kind = 'grey' if image.ndim == 2 else 'colour'
    return f'{width}x{height} px {kind} of {8 * image.dtype.itemsize} bit'
