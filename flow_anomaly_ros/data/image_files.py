# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Image files as a sequence of arrays, read on access and cached in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from flow_anomaly_ros.data.images import read_image
import numpy as np

# Maximum total size of the images in a cache.
CACHE_BYTES = 2**30


class ImageCache:
    """Reads image files and keeps their pixels until `CACHE_BYTES` are used.

    Nothing is evicted: images that no longer fit are read from the file on each access.
    """

    def __init__(self) -> None:
        self._images: dict[Path, np.ndarray] = {}
        self._free_bytes = CACHE_BYTES

    def read(self, path: Path) -> np.ndarray:
        """Return the image of a file.

        Args:
            path: The image file.

        Returns:
            HxW grey or HxWx3 RGB, `uint8` or `uint16`; shared with the cache, so do not modify it.

        Raises:
            ImageReadError: The file is unreadable.
        """
        image = self._images.get(path)
        if image is None:
            image = read_image(path)
            if image.nbytes <= self._free_bytes:
                self._images[path] = image
                self._free_bytes -= image.nbytes
        return image


class ImageFiles(Sequence[np.ndarray]):
    """A sequence of images that are read on access.

    Args:
        paths: The image files.
        cache: The cache that reads them; may be shared by several sequences.
    """

    def __init__(self, paths: Sequence[Path], cache: ImageCache) -> None:
        self._paths = tuple(paths)
        self._cache = cache

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> 'ImageFiles': ...

    def __getitem__(self, index: int | slice) -> 'np.ndarray | ImageFiles':
        """Return one image, or a sequence of several for a slice.

        Raises:
            IndexError: The index is out of range.
            ImageReadError: The file is unreadable.
        """
        if isinstance(index, slice):
            return ImageFiles(self._paths[index], self._cache)
        return self._cache.read(self._paths[index])
