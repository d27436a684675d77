# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly train`: images of good parts to a model file."""

import argparse
from collections import Counter
from collections.abc import Sequence
import json
from pathlib import Path
import sys

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.commands.options import parse_assignments, read_options
from flow_anomaly_ros.commands.output import require_writable
from flow_anomaly_ros.commands.progress import JsonProgress, StageProgress
from flow_anomaly_ros.data.folder import GoodImages, load_good_images, read_folder
from flow_anomaly_ros.data.image_files import ImageCache, ImageFiles
from flow_anomaly_ros.detectors.registry import build_config, find_method, find_preset
from flow_anomaly_ros.detectors.restoration.config import PIXELS
from flow_anomaly_ros.runtime.artifact import save_artifact
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.engine import EXPORTED
from flow_anomaly_ros.runtime.loss_curve import save_loss_curve
from flow_anomaly_ros.runtime.manifest import PartClass
from flow_anomaly_ros.runtime.training import train, Training
import numpy as np

_ONLY_PIXELS = (
    'it compares pixels; a pretrained network finds more: --backbone mobilenet_v2 (downloads 14 MB)'
)


def run(arguments: argparse.Namespace) -> int:
    """Train, write the model and its loss curve, print a summary.

    Of several processes the first one tells and writes.

    Raises:
        ValueError: Bad data, options or output; nothing is written.
    """
    output: Path = arguments.output
    if output.suffix in EXPORTED:
        msg = (
            f'{output} is the name of an exported model: train to a file that ends with '
            '.safetensors, then flow-anomaly export it'
        )
        raise ValueError(msg)
    require_writable(output)
    loss_curve = output.with_suffix('.loss.png')
    require_writable(loss_curve)
    options = _options(arguments)
    limit_threads(arguments.threads)
    is_first = data_parallel.rank() == 0
    is_quiet = arguments.quiet or not is_first
    names = _class_names(arguments.data)
    cache = ImageCache()
    paths: list[Path] = []
    classes: list[str] = []
    for data, name in zip(arguments.data, names, strict=True):
        good = _load(data, arguments, cache, is_first)
        paths.extend(good.paths)
        classes.extend([name] * len(good.paths))
    is_told = arguments.json_progress and is_first
    with JsonProgress() if is_told else StageProgress(is_quiet) as progress:
        training = train(
            arguments.method,
            ImageFiles(paths, cache),
            options=options,
            weights=arguments.weights,
            seed=arguments.seed,
            false_positive_rate=arguments.false_positive_rate,
            shorter_side=arguments.image_size,
            tile=arguments.tile,
            device=arguments.device,
            progress=progress,
            classes=classes if len(names) > 1 else (),
            checkpoints=arguments.checkpoints,
        )
    if not is_first:
        return 0
    save_artifact(output, training.detector, training.manifest)
    if training.checkpoints:
        training.checkpoints.clear()
    if training.report.losses:
        save_loss_curve(loss_curve, training.report)
    told = [*training.report.notes, *summary(training)]
    warned = warnings(training, paths)
    if is_told:
        print(json.dumps({'summary': [*told, *warned]}))
        return 0
    if not arguments.quiet:
        print('\n'.join(told))
        print(f'wrote {output}' + (f' and {loss_curve}' if training.report.losses else ''))
    for line in warned:
        print(line, file=sys.stderr)
    return 0


def summary(training: Training) -> list[str]:
    """What was trained and what the thresholds rest on, a line each."""
    manifest = training.manifest
    height, width = manifest.input_size
    tiles = f', in tiles of {manifest.tile} px,' if manifest.tile else ''
    return [
        f'trained {manifest.method} on {manifest.training["images"]} images at '
        f'{width}x{height} px{tiles} in {manifest.training["seconds"]} s',
        *(line for one in manifest.classes for line in _class_lines(one)),
        *([_ONLY_PIXELS] if PIXELS in str(manifest.config.get('backbone')) else []),
    ]


def warnings(training: Training, paths: Sequence[Path]) -> list[str]:
    """Say what speaks against the thresholds, a line each.

    Args:
        training: The training.
        paths: The files of its images.
    """
    return [
        *training.warnings,
        *(
            f'{paths[index]} differs from the other good parts as a defective one does (score '
            f'{score:.4g}) and raises the limit: if it is one, remove it and train again'
            for index, score in training.outliers.items()
        ),
    ]


def _class_lines(part_class: PartClass) -> list[str]:
    scores, limits = np.array(part_class.calibration_scores), part_class.thresholds
    name = f'{part_class.name}: ' if part_class.name else ''
    return [
        f'{name}{len(scores)} good parts scored {scores.min():.4g} to {scores.max():.4g}, '
        f'median {np.median(scores):.4g}',
        f'{name}thresholds: uncertain from {limits.uncertain:.4g}, defect from {limits.defect:.4g}',
    ]


def _class_names(folders: Sequence[Path]) -> list[str]:
    """Call classes as their folders."""
    names = [folder.resolve().name for folder in folders]
    for name, count in Counter(names).items():
        if count > 1:
            msg = f'{count} folders of --data are called {name}: classes need names that differ'
            raise ValueError(msg)
    return names


def _load(
    data: Path, arguments: argparse.Namespace, cache: ImageCache, is_told: bool
) -> GoodImages:
    """Load the images of a class."""
    folder = read_folder(data)
    if folder.train and folder.train[0].parent.samefile(arguments.output.parent):
        msg = (
            f'{arguments.output} would lie among the images, and the picture of its losses be '
            'taken for one of a good part: write it to another folder'
        )
        raise ValueError(msg)
    good = load_good_images(folder, arguments.max_images, arguments.seed, arguments.strict, cache)
    if good.skipped and is_told:
        count = f'{len(good.skipped)} of {len(folder.train)}'
        lines = [*good.skipped, f'skipped {count} files, training on {len(good.images)} images']
        print('\n'.join(lines), file=sys.stderr)
    return good


def _options(arguments: argparse.Namespace) -> dict[str, object]:
    options = find_preset(arguments.method, arguments.preset) if arguments.preset else {}
    if arguments.config:
        options |= read_options(arguments.config)
    if arguments.backbone:
        options['backbone'] = arguments.backbone
    options |= parse_assignments(arguments.set)
    # A wrong option is told before the images are read.
    config = build_config(arguments.method, options)
    if arguments.weights and not find_method(arguments.method).takes_weights(config):
        msg = f'{arguments.weights} would not be used: name the network it is for with --backbone'
        raise ValueError(msg)
    return options
