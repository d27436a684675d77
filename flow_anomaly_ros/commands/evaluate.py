# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly evaluate`: evaluate a model on test images with ground truth."""

import argparse

from flow_anomaly_ros.commands.arguments import (
    add_backend,
    add_class,
    add_mask_rule,
    add_model,
    DATA_LAYOUT,
    path,
)

SUMMARY = 'evaluate a model on test images with ground truth'
DESCRIPTION = """\
Inspect the test images of a data folder and compare with the ground truth. Print a table of
verdicts per defect type, then AUROC, AUPRO, F1 and latency."""
EXAMPLE = 'evaluate model.safetensors --data parts/ --json metrics.json --pictures pictures/'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    add_class(parser, 'the model estimates it')
    parser.add_argument(
        '--data', type=path, required=True, metavar='DIR', help=f'{DATA_LAYOUT} (required)'
    )
    parser.add_argument(
        '--json', type=path, metavar='FILE', help='also write the metrics to this file'
    )
    parser.add_argument(
        '--pictures',
        type=path,
        metavar='DIR',
        help='also write one picture per image to this folder: image, score map, mask and overlay',
    )
    add_mask_rule(parser)
    add_backend(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; see `actions.evaluate.run`."""
    from flow_anomaly_ros.commands.actions import evaluate

    return evaluate.run(arguments)
