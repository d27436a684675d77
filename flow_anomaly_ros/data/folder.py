# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Datasets on disk: the layout of MVTec AD, or a plain folder of images of good parts.

The layout of MVTec AD (Bergmann et al., "MVTec AD: A Comprehensive Real-World Dataset for
Unsupervised Anomaly Detection", CVPR 2019)::

    root/train/good/*                          training images of good parts
    root/test/good/*, root/test/<defect>/*     test images, one folder per defect type
    root/ground_truth/<defect>/<stem>_mask.png mask of a test image, above 0 where defective

Every file in an image folder is expected to be an image, whatever its suffix, so that a damaged or
misplaced file is reported when it is loaded. Only hidden files, the suffixes `.txt`, `.md`, `.ini`
and `.db`, and files named licence, license or readme are skipped.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from flow_anomaly_ros.data.image_files import ImageCache, ImageFiles
from flow_anomaly_ros.data.images import ImageReadError, list_images, read_image
import numpy as np

GOOD = 'good'
_DOCUMENT_SUFFIXES = ('.txt', '.md', '.ini', '.db')
_DOCUMENT_STEMS = ('licence', 'license', 'readme')
_EXPECTED = (
    "expected images, or the MVTec layout: 'train/good/' and "
    "'test/good/', 'test/<defect>/', 'ground_truth/<defect>/<name>_mask.png'"
)


@dataclass(frozen=True)
class Sample:
    """A test image.

    Attributes:
        path: The image file.
        label: `'good'` or the defect type.
        mask_path: The ground-truth mask; None if there is no such file.
    """

    path: Path
    label: str
    mask_path: Path | None

    @property
    def is_defect(self) -> bool:
        """Whether the part is defective."""
        return self.label != GOOD


@dataclass(frozen=True)
class ImageFolder:
    """Paths of the images in a dataset; no image has been opened yet.

    Attributes:
        root: The folder.
        train: Training images of good parts, sorted by name.
        test: Test images, sorted by label and name.
    """

    root: Path
    train: tuple[Path, ...]
    test: tuple[Sample, ...]


@dataclass(frozen=True)
class GoodImages:
    """Images of good parts, all of the same size, channel count and bit depth.

    Attributes:
        images: `uint8` or `uint16` arrays, HxW or HxWx3 RGB. Those that do not fit into the cache
            are read again on each access.
        paths: The file of each image.
        skipped: One line per unreadable file, with its path and the reason.
    """

    images: Sequence[np.ndarray]
    paths: tuple[Path, ...]
    skipped: tuple[str, ...]


def read_folder(root: str | Path) -> ImageFolder:
    """List the images of a dataset.

    Args:
        root: A folder in MVTec layout, in which `train` or `test` may be missing, or a plain folder
            of images, which all become training images of good parts.

    Returns:
        The paths of the images.

    Raises:
        ValueError: The folder is missing, is a file, contains no images, or has neither layout;
            one line.
    """
    root = Path(root)
    if not root.exists():
        msg = f'data folder {root} does not exist; {_EXPECTED}'
        raise ValueError(msg)
    if not root.is_dir():
        msg = f'data folder {root} is a file; give the folder that contains the images'
        raise ValueError(msg)

    train_folder, test_folder = root / 'train' / GOOD, root / 'test'
    if train_folder.is_dir() or test_folder.is_dir():
        folder = ImageFolder(root, _image_files(train_folder), _test_samples(root))
    elif list_images(root):
        folder = ImageFolder(root, _image_files(root), ())
    else:
        msg = f'data folder {root} contains no images and has no known layout; {_EXPECTED}'
        raise ValueError(msg)
    if not folder.train and not folder.test:
        msg = f"data folder {root} contains no images; add some to 'train/good/' and 'test/good/'"
        raise ValueError(msg)
    return folder


def load_good_images(
    folder: ImageFolder,
    max_images: int | None = None,
    seed: int = 0,
    strict: bool = False,
    cache: ImageCache | None = None,
) -> GoodImages:
    """Load all training images, or a random selection of them.

    Unreadable files are skipped and replaced by others. Files are read until there are enough
    images; with `strict` all files are read.

    Args:
        folder: The dataset.
        max_images: Maximum number of images, >= 1; None loads all.
        seed: Determines the selection.
        strict: Raise an error if any file is unreadable.
        cache: The cache that reads the files; None creates a new one.

    Returns:
        The images sorted by path, and the files that were skipped.

    Raises:
        ValueError: `max_images` is less than 1, no image is readable, the images differ in size,
            channel count or bit depth, or `strict` is set and a file is unreadable; one line.
    """
    if max_images is not None and max_images < 1:
        msg = f'max_images is {max_images}: it must be at least 1'
        raise ValueError(msg)
    if not folder.train:
        msg = f"no images of good parts in {folder.root}; add some to 'train/good/'"
        raise ValueError(msg)
    count = len(folder.train) if max_images is None else max_images

    cache = cache or ImageCache()
    formats: dict[Path, str] = {}
    skipped: dict[Path, str] = {}
    for index in np.random.default_rng(seed).permutation(len(folder.train)):
        if len(formats) == count and not strict:
            break
        path = folder.train[index]
        try:
            is_selected = len(formats) < count
            # With `strict` the remaining files are only checked, not kept.
            image = cache.read(path) if is_selected else read_image(path)
        except ImageReadError as error:
            skipped[path] = str(error)
            continue
        if is_selected:
            formats[path] = _describe_format(image)

    if strict and skipped:
        names = ', '.join(path.name for path in sorted(skipped))
        msg = (
            f'{len(skipped)} of {len(folder.train)} files in {folder.train[0].parent} '
            f'are unreadable: {names}; repair or remove them'
        )
        raise ValueError(msg)
    if not formats:
        msg = (
            f'none of the {len(skipped)} files in {folder.train[0].parent} is readable; '
            f'first error: {skipped[min(skipped)]}'
        )
        raise ValueError(msg)
    _require_same_format(formats)
    paths = tuple(sorted(formats))
    return GoodImages(
        images=ImageFiles(paths, cache),
        paths=paths,
        skipped=tuple(skipped[path] for path in sorted(skipped)),
    )


def mask_path_of(root: Path, path: Path) -> Path:
    """Return the path of a test image's mask in the MVTec layout; the file may not exist."""
    return root / 'ground_truth' / path.parent.name / f'{path.stem}_mask.png'


def load_mask(sample: Sample, size: tuple[int, int]) -> np.ndarray | None:
    """Load the ground-truth mask of a test image.

    Args:
        sample: The test image.
        size: (height, width) of the mask in px. The file is resized to it by nearest-neighbour
            interpolation.

    Returns:
        HxW `bool`, True where defective; all False for a good part. None for a defective part
        without a mask file: pixel metrics leave it out.

    Raises:
        ImageReadError: The mask file is unreadable.
    """
    height, width = size
    if not sample.is_defect:
        return np.zeros((height, width), dtype=bool)
    if sample.mask_path is None:
        return None
    mask = read_image(sample.mask_path)
    if mask.ndim == 3:
        mask = mask.max(axis=2)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _test_samples(root: Path) -> tuple[Sample, ...]:
    samples = []
    for folder in _visible_entries(root / 'test'):
        for path in _image_files(folder):
            mask_path = mask_path_of(root, path)
            samples.append(Sample(path, folder.name, mask_path if mask_path.is_file() else None))
    return tuple(samples)


def _image_files(folder: Path) -> tuple[Path, ...]:
    return tuple(
        path for path in _visible_entries(folder) if path.is_file() and not _is_document(path)
    )


def _is_document(path: Path) -> bool:
    return path.suffix.lower() in _DOCUMENT_SUFFIXES or path.stem.lower() in _DOCUMENT_STEMS


def _visible_entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith('.'))


def _require_same_format(formats: dict[Path, str]) -> None:
    counts = Counter(formats[path] for path in sorted(formats)).most_common()
    if len(counts) == 1:
        return
    rarest = counts[-1][0]
    example = min(path for path, name in formats.items() if name == rarest)
    summary = ', '.join(f'{count} of {name}' for name, count in counts)
    msg = (
        f'images of good parts differ in format: {summary} (for example {example}); use one size, '
        'channel count and bit depth'
    )
    raise ValueError(msg)


def _describe_format(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    return f'{width}x{height} {"grey" if image.ndim == 2 else "RGB"} {image.dtype}'
