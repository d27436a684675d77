# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands share, and their types."""

import argparse
from collections.abc import Callable
from pathlib import Path

DATA_LAYOUT = (
    'a folder in MVTec layout (train/good, test/good, test/<defect>, '
    'ground_truth/<defect>/<name>_mask.png)'
)


def path(text: str) -> Path:
    """Read a path; ~ is expanded here too, since launch arguments pass no shell."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def integer_from(minimum: int) -> Callable[[str], int]:
    """Return a reader of integers that are not smaller than the minimum."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            msg = f'{text!r} must be an integer >= {minimum}'
            raise argparse.ArgumentTypeError(msg)
        return number

    return read


def rate(text: str) -> float:
    """Read a number between 0 and 0.5, both excluded."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 0.5:
        msg = f'{text!r} must be a number between 0 and 0.5'
        raise argparse.ArgumentTypeError(msg)
    return number


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument of a model file."""
    parser.add_argument('model', type=path, metavar='MODEL', help='model file')


# `scoring.thresholds.MASK_RULES`, which takes a second to import.
MASK_RULES = ('calibrated', 'mean', 'half')


def add_mask_rule(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the pixels that a mask consists of; see `scoring.thresholds`."""
    parser.add_argument(
        '--mask-rule',
        choices=MASK_RULES,
        default='calibrated',
        help='pixels of the mask: calibrated applies the thresholds, mean takes those above the '
        'mean of the score map, half those above half of its range; the last two mark something '
        'on every image; a model trained with normalize_maps=true has no such thresholds, so '
        'calibrated is half for it (default: %(default)s)',
    )


def add_class(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --class; `default` says what happens without it."""
    parser.add_argument(
        '--class',
        dest='part_class',
        default='',
        metavar='NAME',
        help=f'class of the parts, for a model of several classes (default: {default})',
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device and --threads."""
    parser.add_argument(
        '--device',
        default='auto',
        metavar='NAME',
        help='cpu, cuda, cuda:1, or auto, which takes a GPU if there is one (default: %(default)s)',
    )
    parser.add_argument(
        '--threads',
        type=integer_from(0),
        default=0,
        metavar='N',
        help='number of CPU threads (default: chosen by torch)',
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add how a model is run: --device, --threads, --precision and --compile."""
    add_device(parser)
    parser.add_argument(
        '--precision',
        default='float32',
        metavar='NAME',
        help='precision of the networks: float32, bfloat16 or float16, if the device supports it '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile a .safetensors model with torch.compile before the first image; takes about '
        'a minute',
    )
