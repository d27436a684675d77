# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly calibrate`: thresholds of a model from further good parts."""

import argparse
from pathlib import Path

from flow_anomaly_ros.commands.output import require_writable
from flow_anomaly_ros.commands.predict import image_paths
from flow_anomaly_ros.data.images import read_image
from flow_anomaly_ros.runtime.artifact import load_artifact, save_artifact
from flow_anomaly_ros.runtime.calibration import recalibrate
from flow_anomaly_ros.runtime.device import limit_threads, select_device


def run(arguments: argparse.Namespace) -> int:
    """Add good parts to what the thresholds rest on, and replace the model file.

    Raises:
        ValueError: Bad model, images or output; the file stays as it was.
    """
    model: Path = arguments.model
    require_writable(model)
    limit_threads(arguments.threads)
    images = [read_image(path) for path in image_paths(arguments.images)]
    detector, manifest = load_artifact(model)
    detector.to(select_device(arguments.device))
    renewed = recalibrate(detector, manifest, images, arguments.accept, arguments.part_class)
    index = manifest.class_index(arguments.part_class) or 0
    old, new = (one.thresholds[index] for one in (manifest, renewed))
    before, after = (one.classes[index].calibration['images'] for one in (manifest, renewed))
    if before == after and old == new:
        print(f'{model} knows all of these {len(images)} images already: nothing to do')
        return 0
    save_artifact(model, detector, renewed)
    print(
        f'{model} rests on {after} good parts now (was {before}); '
        f'uncertain from {new.uncertain:.4g} (was {old.uncertain:.4g}), '
        f'defect from {new.defect:.4g} (was {old.defect:.4g})'
    )
    return 0
