# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Recalibrates a model with more good parts."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import shutil

from flow_anomaly_ros.commands.actions.predict import image_paths
from flow_anomaly_ros.data.atomic import atomic_write
from flow_anomaly_ros.data.image_files import ImageCache, ImageFiles
from flow_anomaly_ros.data.output_files import require_writable
from flow_anomaly_ros.runtime.artifact import load_artifact, save_artifact
from flow_anomaly_ros.runtime.calibration import find_suspicious_images, image_digest, recalibrate
from flow_anomaly_ros.runtime.device import limit_threads, select_device
from flow_anomaly_ros.runtime.inspection_pictures import unique_name
from flow_anomaly_ros.runtime.manifest import PartClass


def run(arguments: argparse.Namespace) -> int:
    """Add good parts to those that the thresholds are based on, and replace the model file.

    The previous model is kept beside it, in case one of the parts was not good.

    Raises:
        ValueError: Bad model, images or output; the file stays as it was.
    """
    model: Path = arguments.model
    require_writable(model)
    limit_threads(arguments.threads)
    paths = list(image_paths(arguments.images))
    images = ImageFiles(paths, ImageCache())
    detector, manifest = load_artifact(model)
    for path, image in zip(paths, images, strict=True):
        if incompatibility := manifest.incompatibility(image.shape):
            msg = f'{path} does not fit the model: {incompatibility}'
            raise ValueError(msg)
    detector.to(select_device(arguments.device))
    renewed = recalibrate(detector, manifest, images, arguments.accept, arguments.part_class)
    index = manifest.class_index(arguments.part_class) or 0
    old, new = (version.thresholds[index] for version in (manifest, renewed))
    before, after = (
        version.classes[index].calibration['images'] for version in (manifest, renewed)
    )
    if before == after and old == new:
        print(f'{model}: nothing to do: the thresholds already include these {len(images)} images')
        return 0
    if not arguments.accept:
        _require_good_parts(paths, images, manifest.classes[index], renewed.classes[index])
    # Earlier ones are kept.
    taken = {path.name for path in model.parent.iterdir()}
    previous = model.with_name(unique_name(f'{model.name}.before', taken))
    with atomic_write(previous) as temporary:
        shutil.copyfile(model, temporary)
    save_artifact(model, detector, renewed)
    print(
        f'{model}: thresholds now based on {after} good parts (was {before}); '
        f'uncertain from {new.uncertain:.4g} (was {old.uncertain:.4g}), '
        f'defect from {new.defect:.4g} (was {old.defect:.4g}); the previous model is {previous}'
    )
    return 0


def _require_good_parts(
    paths: Sequence[Path], images: ImageFiles, before: PartClass, after: PartClass
) -> None:
    """Refuse images that look defective: they would raise the thresholds for all later parts."""
    found = find_suspicious_images(before, after)
    if found:
        named = [
            f'{path} ({found[digest]:.4g})'
            for path, image in zip(paths, images, strict=True)
            if (digest := image_digest(image)) in found
        ]
        msg = (
            f'{len(named)} of {len(paths)} images look defective compared with the known good '
            f'parts (defect from {before.thresholds.defect:.4g}): leave them out, or give --accept '
            f'if a person has inspected all of these images: {", ".join(named)}'
        )
        raise ValueError(msg)
