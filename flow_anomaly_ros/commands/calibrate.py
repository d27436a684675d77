# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly calibrate`: thresholds of a model from further good parts."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import shutil

from flow_anomaly_ros.commands.predict import image_paths
from flow_anomaly_ros.data.atomic import atomic_write
from flow_anomaly_ros.data.image_files import ImageCache, ImageFiles
from flow_anomaly_ros.data.output_files import require_writable
from flow_anomaly_ros.runtime.artifact import load_artifact, save_artifact
from flow_anomaly_ros.runtime.calibration import image_digest, recalibrate, suspects
from flow_anomaly_ros.runtime.device import limit_threads, select_device
from flow_anomaly_ros.runtime.manifest import PartClass


def run(arguments: argparse.Namespace) -> int:
    """Add good parts to what the thresholds rest on, and replace the model file.

    The model before stays beside it, for a part that was no good one.

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
            msg = f'{path} is no image of these parts: {incompatibility}'
            raise ValueError(msg)
    detector.to(select_device(arguments.device))
    renewed = recalibrate(detector, manifest, images, arguments.accept, arguments.part_class)
    index = manifest.class_index(arguments.part_class) or 0
    old, new = (one.thresholds[index] for one in (manifest, renewed))
    before, after = (one.classes[index].calibration['images'] for one in (manifest, renewed))
    if before == after and old == new:
        print(f'{model} knows all of these {len(images)} images already: nothing to do')
        return 0
    if not arguments.accept:
        _require_good_parts(paths, images, manifest.classes[index], renewed.classes[index])
    former = model.with_name(f'{model.name}.before')
    with atomic_write(former) as temporary:
        shutil.copyfile(model, temporary)
    save_artifact(model, detector, renewed)
    print(
        f'{model} rests on {after} good parts now (was {before}); '
        f'uncertain from {new.uncertain:.4g} (was {old.uncertain:.4g}), '
        f'defect from {new.defect:.4g} (was {old.defect:.4g}); the model before is {former}'
    )
    return 0


def _require_good_parts(
    paths: Sequence[Path], images: ImageFiles, before: PartClass, after: PartClass
) -> None:
    """Refuse images that look like defects: they would raise the limit for all that follow."""
    found = suspects(before, after)
    if found:
        names = ', '.join(
            f'{path} ({found[digest]:.4g})'
            for path, image in zip(paths, images, strict=True)
            if (digest := image_digest(image)) in found
        )
        msg = (
            f'{names}: they look defective beside the good parts that the model knows (defect from '
            f'{before.thresholds.defect:.4g}): leave them out, or give --accept if somebody has '
            'looked at all of these images'
        )
        raise ValueError(msg)
