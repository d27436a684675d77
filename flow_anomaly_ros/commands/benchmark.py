# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly benchmark`: profile an inspection, stage by stage."""

import argparse

from flow_anomaly_ros.commands.arguments import add_backend, integer_from, path

SUMMARY = 'measure latency, throughput and memory of models'
DESCRIPTION = """\
Time models, such as a model and its exports, alternately on the same images. Print median and 95th
percentile of every stage, images per second and memory."""
EXAMPLE = 'benchmark model.safetensors model.onnx --batch 1 --batch 8'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'models',
        type=path,
        nargs='+',
        metavar='MODEL',
        help='model files, written by train or export',
    )
    parser.add_argument(
        '--images',
        type=path,
        action='append',
        metavar='IMAGE_OR_FOLDER',
        help='images to inspect; may be repeated (default: a generated image of the size that the '
        'model was trained on)',
    )
    parser.add_argument(
        '--batch',
        type=integer_from(1),
        action='append',
        metavar='N',
        help='batch size; may be repeated (default: 1)',
    )
    parser.add_argument(
        '--runs',
        type=integer_from(5),
        default=50,
        metavar='N',
        help='inspections per batch size (default: %(default)s)',
    )
    parser.add_argument(
        '--json', type=path, metavar='FILE', help='also write the times and the memory to this file'
    )
    add_backend(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure; see `actions.benchmark.run`."""
    from flow_anomaly_ros.commands.actions import benchmark

    return benchmark.run(arguments)
