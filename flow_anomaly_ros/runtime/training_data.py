# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The images of a training, loaded from the folders of a request or given by the caller."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.data.image_files import ImageCache, ImageFiles
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import numpy as np


@dataclass(frozen=True)
class TrainingDataset:
    """Images of good parts.

    Attributes:
        images: HxW (grey) or HxWx3 RGB arrays, uint8 or uint16; those of a class have one size.
        classes: Name of each image's class; empty: all are of one class without a name.
        paths: File of each image; empty where they are from no files.
        skipped: A line for each file that could not be read.
    """

    images: Sequence[np.ndarray]
    classes: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    skipped: tuple[str, ...] = ()


def load_dataset(request: TrainingRequest) -> TrainingDataset:
    """List the images of a request's folders; pixels are read when they are used.

    Raises:
        ValueError: A folder cannot be used, two have one name, or the model file would lie among
            the images; one line.
    """
    if not request.data:
        msg = 'no data folder: name a folder with images of good parts'
        raise ValueError(msg)
    names = _class_names(request.data)
    cache = ImageCache()
    paths: list[Path] = []
    classes: list[str] = []
    skipped: list[str] = []
    for data, name in zip(request.data, names, strict=True):
        folder = read_folder(data)
        if request.output and folder.train and _is_in(request.output, folder.train[0].parent):
            msg = (
                f'{request.output} would be written into the image folder, and its loss plot would '
                'be read as an image of a good part: choose another folder'
            )
            raise ValueError(msg)
        good = load_good_images(folder, request.max_images, request.seed, request.strict, cache)
        paths.extend(good.paths)
        classes.extend([name] * len(good.paths))
        if good.skipped:
            skipped += [
                *good.skipped,
                f'skipped {len(good.skipped)} of {len(folder.train)} files, training on '
                f'{len(good.images)} images',
            ]
    return TrainingDataset(
        images=ImageFiles(paths, cache),
        classes=tuple(classes) if len(names) > 1 else (),
        paths=tuple(paths),
        skipped=tuple(skipped),
    )


def _class_names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    for name, count in Counter(names).items():
        if count > 1:
            msg = f'{count} data folders are named {name}: rename them, since they name the classes'
            raise ValueError(msg)
    return names


def _is_in(path: Path, folder: Path) -> bool:
    return path.parent.is_dir() and path.parent.samefile(folder)
