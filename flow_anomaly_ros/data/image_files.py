# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""More images than the memory holds, as a sequence."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from flow_anomaly_ros.data.images import read_image
import numpy as np

# Bytes of images that are kept.
CACHE_BYTES = 2**30


class ImageCache:
    """Reads images, and keeps them while there is room."""

    def __init__(self) -> None:
        self._kept: dict[Path, np.ndarray] = {}
        self._room = CACHE_BYTES

    def read(self, path: Path) -> np.ndarray:
        """Image of a file; see `read_image`."""
        image = self._kept.get(path)
        if image is None:
            image = read_image(path)
            if image.nbytes <= self._room:
                self._kept[path] = image
                self._room -= image.nbytes
        return image


class ImageFiles(Sequence[np.ndarray]):
    """Images of files, which are read when they are asked for.

    Args:
        paths: The files.
        cache: What reads them.
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
        """Image of a file, or those of several.

        Raises:
            ImageReadError: The file has become unreadable.
        """
        if isinstance(index, slice):
            return ImageFiles(self._paths[index], self._cache)
        return self._cache.read(self._paths[index])
