# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly train`: train and calibrate a model."""

import argparse

from flow_anomaly_ros.commands.arguments import add_device, DATA_LAYOUT, integer_from, path, rate

SUMMARY = 'train a model on images of good parts'
DESCRIPTION = """\
Train a model on images of good parts (ten are enough to start with). Calibrate its thresholds on
parts that are held out from training. Write the model file and a plot of the loss beside it
(.loss.png)."""
EXAMPLE = 'train --data parts/ --output model.safetensors --max-images 10'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments; those of the training are the fields of `TrainingRequest`."""
    parser.add_argument(
        '--data',
        type=path,
        action='append',
        required=True,
        metavar='DIR',
        help=f'images of good parts: {DATA_LAYOUT} or a plain folder of images (required). Repeat '
        'it to train one model on several classes of parts, if the method supports that; classes '
        'are named after their folders',
    )
    parser.add_argument(
        '--output',
        type=path,
        required=True,
        metavar='FILE',
        help='model file to write, usually *.safetensors; an existing file is replaced (required)',
    )
    parser.add_argument('--method', metavar='NAME', help='detection method (default: restoration)')
    parser.add_argument(
        '--max-images',
        type=integer_from(1),
        metavar='N',
        help='train on N images per class, chosen at random (default: all)',
    )
    parser.add_argument(
        '--backbone',
        metavar='NAME',
        help='pretrained network that extracts features: a torchvision name such as mobilenet_v2, '
        'timm/ and a timm name, or efficientnet_lite0, 1 or 2 (default: that of the method; '
        'efficientnet_lite0 for restoration)',
    )
    parser.add_argument(
        '--weights',
        type=path,
        metavar='FILE',
        help='weights file of the backbone, or a folder of files named after their networks '
        '(default: that of the pip package of efficientnet_lite0, 1 or 2; others are downloaded)',
    )
    parser.add_argument(
        '--image-size',
        type=integer_from(32),
        default=256,
        metavar='PX',
        help='shorter side that images are resized to (default: %(default)s)',
    )
    parser.add_argument(
        '--tile',
        type=integer_from(1),
        metavar='PX',
        help='cut images into overlapping square tiles of this side, a multiple of 64, so that '
        'small defects in large images are found (default: no tiles)',
    )
    parser.add_argument(
        '--false-positive-rate',
        type=rate,
        default=0.01,
        metavar='RATE',
        help='share of good parts that may be classified as defect (default: %(default)s)',
    )
    parser.add_argument(
        '--uncertain-rate',
        type=rate,
        default=0.1,
        metavar='RATE',
        help='share of good parts that may be classified as uncertain or defect, so that a person '
        'looks at them (default: %(default)s)',
    )
    parser.add_argument(
        '--preset',
        metavar='NAME',
        help='named set of method options, such as fast; --config and --set override it; see '
        'flow-anomaly methods',
    )
    parser.add_argument(
        '--config', type=path, metavar='FILE', help='YAML file with options of the method'
    )
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='set one option of the method, such as flow_steps=500; overrides --config; may be '
        'repeated; see flow-anomaly methods',
    )
    parser.add_argument(
        '--seed',
        type=integer_from(0),
        default=0,
        metavar='S',
        help='the same seed gives the same model (default: %(default)s)',
    )
    parser.add_argument(
        '--strict', action='store_true', help='fail on an unreadable file instead of skipping it'
    )
    parser.add_argument(
        '--checkpoints',
        type=path,
        metavar='DIR',
        help='save a checkpoint to this folder every minute; the same command resumes an '
        'interrupted training, and deletes the checkpoints when it is done (default: none)',
    )
    parser.add_argument('--quiet', action='store_true', help='print no progress and no summary')
    parser.add_argument(
        '--json-progress',
        action='store_true',
        help='for programs: print progress and result on stdout as one JSON object per line, and '
        'stop as with Ctrl-C when stdin is closed',
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train; see `actions.train.run`."""
    from flow_anomaly_ros.commands.actions import train

    return train.run(arguments)
