# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly predict`: inspect images."""

import argparse

from flow_anomaly_ros.commands.arguments import (
    add_backend,
    add_class,
    add_mask_rule,
    add_model,
    path,
)

SUMMARY = 'inspect images'
DESCRIPTION = """\
Inspect images. Print one line per image: its verdict (ok, uncertain or defect), its score and its
anomalous regions."""
EXAMPLE = 'predict model.safetensors new_parts/ --output pictures/'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    add_class(parser, 'the model estimates it')
    parser.add_argument(
        'images', type=path, nargs='+', metavar='IMAGE_OR_FOLDER', help='images to inspect'
    )
    parser.add_argument(
        '--output',
        type=path,
        metavar='DIR',
        help='also write a mask and a picture per image to this folder (NAME.mask.png, '
        'NAME.strip.png)',
    )
    parser.add_argument(
        '--explain',
        action='store_true',
        help='also write there what the detector compared, such as restored images '
        '(NAME.explanation.png)',
    )
    parser.add_argument(
        '--json', type=path, metavar='FILE', help='also write the results to this file'
    )
    add_mask_rule(parser)
    add_backend(parser)


def run(arguments: argparse.Namespace) -> int:
    """Inspect; see `actions.predict.run`."""
    from flow_anomaly_ros.commands.actions import predict

    return predict.run(arguments)
