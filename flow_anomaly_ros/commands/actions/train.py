# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Trains a model and writes it."""

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
import sys
from typing import Any

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.data.output_files import require_writable
from flow_anomaly_ros.detectors.registry import (
    DEFAULT_METHOD,
    find_method,
    find_preset,
)
from flow_anomaly_ros.runtime.artifact import save_artifact
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.loss_curve import save_loss_curve
from flow_anomaly_ros.runtime.manifest import PartClass
from flow_anomaly_ros.runtime.option_syntax import parse_assignments, read_options
from flow_anomaly_ros.runtime.training import train, Training
from flow_anomaly_ros.runtime.training_data import load_dataset
from flow_anomaly_ros.runtime.training_progress import JsonProgress, StageProgress
from flow_anomaly_ros.runtime.training_request import TrainingRequest
from flow_anomaly_ros.scoring.calibration import COVERAGE, rate_interval
import numpy as np


def run(arguments: argparse.Namespace) -> int:
    """Train, write the model and its loss curve, print a summary.

    With several processes, rank 0 reports and writes.

    Raises:
        ValueError: Bad data, options or output; nothing is written.
    """
    request, notes = request_of(arguments)
    request.check()
    output: Path = arguments.output
    require_writable(output)
    loss_curve = output.with_suffix('.loss.png')
    require_writable(loss_curve)
    limit_threads(request.threads)
    is_first = data_parallel.rank() == 0
    dataset = load_dataset(request)
    if is_first:
        for line in [*notes, *dataset.skipped]:
            print(line, file=sys.stderr)
    is_json = arguments.json_progress and is_first
    is_quiet = arguments.quiet or not is_first
    with JsonProgress() if is_json else StageProgress(is_quiet) as progress:
        training = train(request, dataset, progress)
    if not is_first:
        return 0
    save_artifact(output, training.detector, training.manifest)
    if training.checkpoints:
        training.checkpoints.clear()
    if training.report.losses:
        save_loss_curve(loss_curve, training.report)
    lines = [*training.report.notes, *summary(training, dataset.paths)]
    warned = warnings(training, dataset.paths)
    if is_json:
        print(json.dumps({'summary': [*lines, *warned]}))
        return 0
    if not arguments.quiet:
        print('\n'.join(lines))
        print(f'wrote {output}' + (f' and {loss_curve}' if training.report.losses else ''))
    for line in warned:
        print(line, file=sys.stderr)
    return 0


def request_of(arguments: argparse.Namespace) -> tuple[TrainingRequest, list[str]]:
    """Make the request that the arguments describe.

    Returns:
        The request, and a line for each option that was given under a former name.

    Raises:
        ValueError: An unknown method or preset, or options that cannot be read; one line.
    """
    method = arguments.method or DEFAULT_METHOD
    options = find_preset(method, arguments.preset) if arguments.preset else {}
    notes: list[str] = []
    for given in (
        read_options(arguments.config) if arguments.config else {},
        {'backbone': arguments.backbone} if arguments.backbone else {},
        parse_assignments(arguments.set),
    ):
        current, renamed = find_method(method).current_options(given)
        options |= current
        notes += renamed
    request = TrainingRequest(
        data=tuple(arguments.data),
        output=arguments.output,
        method=method,
        options=options,
        weights=arguments.weights,
        max_images=arguments.max_images,
        strict=arguments.strict,
        image_size=arguments.image_size,
        tile=arguments.tile,
        false_positive_rate=arguments.false_positive_rate,
        uncertain_rate=arguments.uncertain_rate,
        seed=arguments.seed,
        device=arguments.device,
        threads=arguments.threads,
        checkpoints=arguments.checkpoints,
    )
    return request, notes


def summary(training: Training, paths: Sequence[Path]) -> list[str]:
    """Summarise the training and what the thresholds are based on, a line each.

    Args:
        training: The training.
        paths: Files of its images.
    """
    highest = max(training.held_out, key=lambda index: training.held_out[index])
    manifest = training.manifest
    height, width = manifest.input_size
    tiles = f', in tiles of {manifest.tile} px,' if manifest.tile else ''
    return [
        f'trained {manifest.method} on {manifest.training["images"]} images at '
        f'{width}x{height} px{tiles} in {manifest.training["seconds"]} s',
        *(line for part_class in manifest.classes for line in _class_lines(part_class)),
        f'the good part with the highest score is {paths[highest]}',
    ]


def warnings(training: Training, paths: Sequence[Path]) -> list[str]:
    """List what makes the thresholds unreliable, a line each.

    Args:
        training: The training.
        paths: Files of its images.
    """
    return [
        *training.warnings,
        *(
            f'{paths[index]} shows the same part as {paths[first]} and was not used: take one '
            'image of each part'
            for index, first in training.duplicates.items()
        ),
        *(
            f'{paths[index]} looks defective (score {score:.4g}) and raises the threshold: if it '
            'is defective, remove it and retrain'
            for index, score in training.outliers.items()
        ),
    ]


def _class_lines(part_class: PartClass) -> list[str]:
    scores, limits = np.array(part_class.calibration_scores), part_class.thresholds
    name = f'{part_class.name}: ' if part_class.name else ''
    if len(scores) == 1:
        return [
            f'{name}the only good part scored {scores[0]:.4g}, by a model that had seen it',
            f'{name}defect from {limits.defect:.4g}, which is a guess: add good parts',
        ]
    return [
        f'{name}{len(scores)} good parts, scored by models that had not seen them: '
        f'{scores.min():.4g} to {scores.max():.4g}, median {np.median(scores):.4g}',
        f'{name}uncertain from {limits.uncertain:.4g}: {_expected(part_class, "uncertain")}',
        f'{name}defect from {limits.defect:.4g}: {_expected(part_class, "defect")}',
    ]


def _expected(part_class: PartClass, threshold: str) -> str:
    """Say how many good parts reach a threshold, and how little is known of it."""
    calibration: dict[str, Any] = part_class.calibration
    mean, low, high = rate_interval(
        np.array(part_class.calibration_scores),
        getattr(part_class.thresholds, threshold),
        calibration['spread'],
    )
    return (
        f'about {mean:.1%} of good parts will reach it ({low:.1%} to {high:.1%} with a probability '
        f'of {COVERAGE:.0%})'
    )
