# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly calibrate`: tighten the thresholds of a model with more good parts."""

import argparse

from flow_anomaly_ros.commands.arguments import add_class, add_device, add_model, path

SUMMARY = 'recalibrate a model with more good parts'
DESCRIPTION = """\
Recalibrate the thresholds of a model with more images of good parts, and replace the file. More
parts bring the share of rejected good parts closer to the requested rate. Images that the model was
trained on, or that were added before, change nothing. The previous model is kept as MODEL.before,
or MODEL.before_2 and so on if there is one."""
EXAMPLE = 'calibrate model.safetensors more_good_parts/'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    add_class(parser, 'none; required for a model of several classes')
    parser.add_argument(
        'images', type=path, nargs='+', metavar='IMAGE_OR_FOLDER', help='images of good parts'
    )
    parser.add_argument(
        '--accept',
        action='store_true',
        help='raise the thresholds so that all of these parts pass, regardless of the requested '
        'rate; only for parts that a person has inspected and found good',
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Recalibrate; see `actions.calibrate.run`."""
    from flow_anomaly_ros.commands.actions import calibrate

    return calibrate.run(arguments)
