# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Data folders: the layout of MVTec AD, or a plain folder of images of good parts.

The layout of MVTec AD (Bergmann et al., "MVTec AD: A Comprehensive Real-World Dataset for
Unsupervised Anomaly Detection", CVPR 2019)::

    root/train/good/*                          good parts to learn from
    root/test/good/*, root/test/<defect>/*     parts to judge, one folder per kind of defect
    root/ground_truth/<defect>/<stem>_mask.png defective pixels of a test image, above 0

Every file in an image folder counts as an image, whatever its suffix, so that a damaged or
misplaced one is named when it is loaded. Only hidden files, `.txt`, `.md` and files called
licence, license or readme are passed over.
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
    "expected images in it, or the MVTec layout: 'train/good/' and "
    "'test/good/', 'test/<defect>/', 'ground_truth/<defect>/<name>_mask.png'"
)


@dataclass(frozen=True)
class Sample:
    """One test image.

    Attributes:
        path: The image file.
        label: `'good'`, or the kind of defect.
        mask_path: The file that marks the defective pixels; None where there is none.
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
    """What a data folder holds; no image has been opened yet.

    Attributes:
        root: The folder.
        train: Images of good parts, in the order of their names.
        test: Test images, in the order of their labels and names.
    """

    root: Path
    train: tuple[Path, ...]
    test: tuple[Sample, ...]


@dataclass(frozen=True)
class GoodImages:
    """Images of good parts, all of one size, channel count and depth.

    Attributes:
        images: `uint8` or `uint16` arrays, HxW or HxWx3 RGB; many are read again when asked for.
        paths: Where each of them came from.
        skipped: One line per file that could not be read: which and why.
    """

    images: Sequence[np.ndarray]
    paths: tuple[Path, ...]
    skipped: tuple[str, ...]


def read_folder(root: str | Path) -> ImageFolder:
    """List the images of a data folder.

    Args:
        root: A folder in MVTec layout, of which either half may be missing, or a plain folder of
            images, all taken as good parts to learn from.

    Raises:
        ValueError: The folder is missing, is a file, holds no images, or has neither layout.
    """
    root = Path(root)
    if not root.exists():
        msg = f'data folder {root} does not exist; {_EXPECTED}'
        raise ValueError(msg)
    if not root.is_dir():
        msg = f'data folder {root} is a file; give the folder that holds the images'
        raise ValueError(msg)

    train_folder, test_folder = root / 'train' / GOOD, root / 'test'
    if train_folder.is_dir() or test_folder.is_dir():
        folder = ImageFolder(root, _image_files(train_folder), _test_samples(root))
    elif list_images(root):
        folder = ImageFolder(root, _image_files(root), ())
    else:
        msg = f'data folder {root} has no images and no known layout; {_EXPECTED}'
        raise ValueError(msg)
    if not folder.train and not folder.test:
        msg = f"data folder {root} has no images; put some into 'train/good/' and 'test/good/'"
        raise ValueError(msg)
    return folder


def load_good_images(
    folder: ImageFolder,
    max_images: int | None = None,
    seed: int = 0,
    strict: bool = False,
    cache: ImageCache | None = None,
) -> GoodImages:
    """Load images of good parts, at random which where only some are asked for.

    Unreadable files are named and skipped, and others are taken in their place. Files are read
    until there are enough images; with `strict` every file is read.

    Args:
        folder: What to load from.
        max_images: At most this many images; None takes all.
        seed: Decides which images are taken.
        strict: Refuse the folder when any of its files is unreadable.
        cache: Reads the files; None: one of its own.

    Returns:
        The images in the order of their paths, and what was skipped.

    Raises:
        ValueError: `max_images` is below 1, no image is readable, the images are not all of one
            size, or, with `strict`, a file is unreadable.
    """
    if max_images is not None and max_images < 1:
        msg = f'max_images is {max_images}; at least 1 image is needed'
        raise ValueError(msg)
    if not folder.train:
        msg = f"no images of good parts in {folder.root}; put some into 'train/good/'"
        raise ValueError(msg)
    wanted = len(folder.train) if max_images is None else max_images

    cache = cache or ImageCache()
    kinds: dict[Path, str] = {}
    skipped: dict[Path, str] = {}
    for index in np.random.default_rng(seed).permutation(len(folder.train)):
        if len(kinds) == wanted and not strict:
            break
        path = folder.train[index]
        try:
            is_wanted = len(kinds) < wanted
            # The others are only asked whether they can be read, and not kept.
            image = cache.read(path) if is_wanted else read_image(path)
        except ImageReadError as error:
            skipped[path] = str(error)
            continue
        if is_wanted:
            kinds[path] = _describe(image)

    if strict and skipped:
        names = ', '.join(path.name for path in sorted(skipped))
        msg = (
            f'{len(skipped)} of {len(folder.train)} files in {folder.train[0].parent} '
            f'are unreadable: {names}; repair or remove them'
        )
        raise ValueError(msg)
    if not kinds:
        msg = (
            f'none of the {len(skipped)} files in {folder.train[0].parent} is readable; '
            f'the first: {skipped[min(skipped)]}'
        )
        raise ValueError(msg)
    _require_one_kind(kinds)
    paths = tuple(sorted(kinds))
    return GoodImages(
        images=ImageFiles(paths, cache),
        paths=paths,
        skipped=tuple(skipped[path] for path in sorted(skipped)),
    )


def mask_path_of(root: Path, path: Path) -> Path:
    """Where the MVTec layout has the mask of a test image."""
    return root / 'ground_truth' / path.parent.name / f'{path.stem}_mask.png'


def load_mask(sample: Sample, size: tuple[int, int]) -> np.ndarray | None:
    """Load which pixels of a test image are defective.

    Args:
        sample: The test image.
        size: Height and width of the mask wanted, in pixels; the stored one is resized to it by
            nearest neighbour.

    Returns:
        HxW bool, True where defective: nowhere for a good part. None for a defective part that
        has no mask file, so that pixel metrics can leave it out.

    Raises:
        ImageReadError: The mask file is unreadable.
    """
    height, width = size
    if not sample.is_defect:
        return np.zeros((height, width), dtype=bool)
    if sample.mask_path is None:
        return None
    stored = read_image(sample.mask_path)
    if stored.ndim == 3:
        stored = stored.max(axis=2)
    return cv2.resize(stored, (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _test_samples(root: Path) -> tuple[Sample, ...]:
    samples = []
    for folder in _visible(root / 'test'):
        for path in _image_files(folder):
            mask_path = mask_path_of(root, path)
            samples.append(Sample(path, folder.name, mask_path if mask_path.is_file() else None))
    return tuple(samples)


def _image_files(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in _visible(folder) if path.is_file() and not _is_document(path))


def _is_document(path: Path) -> bool:
    return path.suffix.lower() in _DOCUMENT_SUFFIXES or path.stem.lower() in _DOCUMENT_STEMS


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith('.'))


def _require_one_kind(kinds: dict[Path, str]) -> None:
    counts = Counter(kinds[path] for path in sorted(kinds)).most_common()
    if len(counts) == 1:
        return
    rarest = counts[-1][0]
    example = min(path for path, kind in kinds.items() if kind == rarest)
    listed = ', '.join(f'{count} of {kind}' for kind, count in counts)
    msg = f'images of good parts differ: {listed} (such as {example}); make them all alike'
    raise ValueError(msg)


def _describe(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    return f'{width}x{height} {"grey" if image.ndim == 2 else "RGB"} {image.dtype}'
