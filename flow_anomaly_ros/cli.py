# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The command `flow-anomaly`: arguments in, one line per error out."""

import argparse
from collections.abc import Callable, Sequence
import contextlib
import importlib
import os
from pathlib import Path
import sys
from typing import NoReturn

from flow_anomaly_ros import __version__
from flow_anomaly_ros.errors import error_summary

PROGRAM = 'flow-anomaly'
DATA_LAYOUT = (
    'DIR is a folder in MVTec layout (train/good, test/good, test/<defect>, '
    'ground_truth/<defect>/<name>_mask.png)'
)
# Commands that share their work among the processes of torchrun.
SHARED = ('train', 'predict')
EXIT_STATUS = """\
exit status:
  0    done
  1    done, but evaluate or predict could not read some images (named on stderr)
  2    not done; one line on stderr says why
  130  stopped with Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    """Leaves the one line about a wrong argument to `main`, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        msg = f'{message}; see {self.prog} --help'
        raise ValueError(msg)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        with _processes() as is_shared:
            parsed, unknown = _parser().parse_known_args(arguments)
            if unknown:
                # argparse itself would send to the help of the whole program.
                msg = (
                    f'unknown arguments: {" ".join(unknown)}; see {PROGRAM} {parsed.command} --help'
                )
                raise ValueError(msg)
            if is_shared and parsed.command not in SHARED:
                msg = f'{parsed.command} cannot be shared by processes: start it without torchrun'
                raise ValueError(msg)
            # Imported here, so that --help does not wait for torch.
            command = importlib.import_module(f'flow_anomaly_ros.commands.{parsed.command}')
            status = command.run(parsed)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        _complain('stopped')
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `head` does. What is left in the buffer must
        # not raise again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        _complain(f'{error.filename}: {error.strerror}' if error.strerror else str(error))
        return 2
    except ValueError as error:
        _complain(str(error))
        return 2
    except (MemoryError, RuntimeError) as error:
        # torch has no class of its own for what the CPU lacks.
        if not isinstance(error, MemoryError) and 'memory' not in str(error):
            raise
        _complain(f'out of memory: take fewer or smaller images ({error_summary(error, 200)})')
        return 2


def _processes() -> contextlib.AbstractContextManager[bool]:
    """Join the processes of torchrun, if it has started this one; gives whether there are any."""
    if 'WORLD_SIZE' not in os.environ:
        return contextlib.nullcontext(False)
    # Imported here, so that --help does not wait for torch.
    from flow_anomaly_ros.data_parallel import process_group

    return process_group()


def _complain(message: str) -> None:
    print(f'{PROGRAM}: {" ".join(message.split())}', file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description='Find defects on parts, having seen a few images of good ones.',
        epilog=f'{EXIT_STATUS}\nEach command has a --help of its own. '
        f'{" and ".join(SHARED)} share their work\namong the processes of torchrun.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'{PROGRAM} {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    _train_arguments(
        _add_command(
            commands,
            'train',
            'train a model on images of good parts',
            'Train a model on images of good parts (10 are enough to begin with) and calibrate\n'
            'its thresholds on parts held out from training. Writes the model file and, next to\n'
            'it, a picture of the loss curves (.loss.png).',
            'train --data parts/ --output model.safetensors --max-images 10',
        )
    )
    _evaluate_arguments(
        _add_command(
            commands,
            'evaluate',
            'measure a model on test images with known truth',
            'Inspect the test images of a data folder and compare with the truth: a table of\n'
            'verdicts per kind of defect, then AUROC, AUPRO, F1 and latency.',
            'evaluate model.safetensors --data parts/ --json figures.json --pictures pictures/',
        )
    )
    _predict_arguments(
        _add_command(
            commands,
            'predict',
            'inspect images',
            'Inspect images: a line for each with its verdict (ok, uncertain or defect), its\n'
            'score and the regions that are abnormal.',
            'predict model.safetensors new_parts/ --output pictures/',
        )
    )
    _calibrate_arguments(
        _add_command(
            commands,
            'calibrate',
            'choose the thresholds of a model anew, with further good parts',
            'Add good parts to those that the thresholds of a model rest on, and replace the\n'
            'file. The more there are, the better the thresholds keep to the rate of good parts\n'
            'that may be rejected. Images that the model was trained on, or that were added\n'
            'before, change nothing. The model before stays beside it, as MODEL.before.',
            'calibrate model.safetensors more_good_parts/',
        )
    )
    _export_arguments(
        _add_command(
            commands,
            'export',
            'write a model for a faster runtime',
            'Write a model for ONNX Runtime (.onnx) or OpenVINO (.xml and .bin): one graph from\n'
            'RGB bytes of any size to the score map and the image score. It takes the place of\n'
            'the .safetensors file everywhere but in calibrate and predict --explain, with the\n'
            'thresholds that this has now. Needs the packages onnx and onnxscript, and\n'
            'onnxruntime or openvino.',
            'export model.safetensors --backend onnx --output model.onnx',
        )
    )
    _benchmark_arguments(
        _add_command(
            commands,
            'benchmark',
            'show where the time of an inspection goes',
            'Measure models, such as one and its exports, in turn on the same images: median and\n'
            '95th percentile of every stage, images per second, and memory.',
            'benchmark model.safetensors model.onnx --batch 1 --batch 8',
        )
    )
    _extract_arguments(
        _add_command(
            commands,
            'extract',
            'take images out of a rosbag2 recording',
            'Write images of a topic as PNG files, spread evenly over a recording (sqlite3 or\n'
            'mcap), to train on. Needs the package rosbags, but no ROS installation.',
            'extract recording/ --topic /camera/image --output good_parts/ --images 10',
        )
    )
    _add_command(
        commands,
        'methods',
        'list the detection methods and their options',
        'List the detection methods and their options, with defaults and types.\n'
        'Options are set with train --set or --config.',
        'methods',
    )
    return parser


def _add_command(
    commands: 'argparse._SubParsersAction[_Parser]',
    name: str,
    summary: str,
    details: str,
    example: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=details,
        epilog=f'example:\n  {PROGRAM} {example}\n\n{EXIT_STATUS}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data',
        type=_path,
        action='append',
        required=True,
        metavar='DIR',
        help=f'images of good parts: {DATA_LAYOUT}, or a plain folder of images (required); may be '
        'repeated with a method that learns several classes of parts, which are called as their '
        'folders',
    )
    parser.add_argument(
        '--output',
        type=_path,
        required=True,
        metavar='FILE',
        help='model file to write, as a rule *.safetensors; an existing one is replaced (required)',
    )
    parser.add_argument(
        '--method',
        default='restoration',
        metavar='NAME',
        help='detection method (default: %(default)s)',
    )
    parser.add_argument(
        '--max-images',
        type=_whole_from(1),
        metavar='N',
        help='train on N images of each class, chosen at random (default: all)',
    )
    parser.add_argument(
        '--backbone',
        metavar='NAME',
        help='network that extracts features, a torchvision name such as mobilenet_v2, or timm/ '
        'and a timm name (default: that of the method; restoration needs none)',
    )
    parser.add_argument(
        '--weights',
        type=_path,
        metavar='FILE',
        help='weights of the backbone, or a folder of files named after networks '
        '(default: downloaded)',
    )
    parser.add_argument(
        '--image-size',
        type=_whole_from(32),
        default=256,
        metavar='PX',
        help='shorter side images are reduced to (default: %(default)s)',
    )
    parser.add_argument(
        '--tile',
        type=_whole_from(1),
        metavar='PX',
        help='cut these into overlapping square tiles of this side, a multiple of 64, so that '
        'defects small beside a large image still show (default: images are seen whole)',
    )
    parser.add_argument(
        '--false-positive-rate',
        type=_rate,
        default=0.01,
        metavar='RATE',
        help='share of good parts that may be rejected (default: %(default)s)',
    )
    parser.add_argument(
        '--preset',
        metavar='NAME',
        help='options of the method that belong together, such as fast; --config and --set '
        'override them; flow-anomaly methods lists them',
    )
    parser.add_argument(
        '--config', type=_path, metavar='FILE', help='YAML file with options of the method'
    )
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='set one option of the method, such as flow_steps=500; overrides --config; '
        'may be repeated; flow-anomaly methods lists the options',
    )
    parser.add_argument(
        '--seed',
        type=_whole_from(0),
        default=0,
        metavar='S',
        help='the same seed gives the same model (default: %(default)s)',
    )
    parser.add_argument(
        '--strict', action='store_true', help='refuse the folder when a file is unreadable'
    )
    parser.add_argument(
        '--checkpoints',
        type=_path,
        metavar='DIR',
        help='keep the state of the training there every minute; the same command goes on from '
        'there if it was interrupted, and deletes them when it is done (default: none)',
    )
    parser.add_argument('--quiet', action='store_true', help='show no progress and no summary')
    parser.add_argument(
        '--json-progress',
        action='store_true',
        help='for programs: tell the progress and the result on stdout, a JSON object a line, and '
        'stop as with Ctrl-C when stdin is closed',
    )
    _device_arguments(parser)


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _model_argument(parser)
    _class_argument(parser, 'estimated by the model')
    parser.add_argument(
        '--data',
        type=_path,
        required=True,
        metavar='DIR',
        help=f'test images: {DATA_LAYOUT} (required)',
    )
    parser.add_argument('--json', type=_path, metavar='FILE', help='also write the figures there')
    parser.add_argument(
        '--pictures',
        type=_path,
        metavar='DIR',
        help='also write a picture per image there: image, score map, mask, overlay',
    )
    _backend_arguments(parser)


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    _model_argument(parser)
    _class_argument(parser, 'estimated by the model')
    parser.add_argument(
        'images', type=_path, nargs='+', metavar='IMAGE_OR_FOLDER', help='images to inspect'
    )
    parser.add_argument(
        '--output',
        type=_path,
        metavar='DIR',
        help='also write a mask and a picture per image there (NAME.mask.png, NAME.strip.png)',
    )
    parser.add_argument(
        '--explain',
        action='store_true',
        help='also write what the detector compared, such as restored images, there '
        '(NAME.explanation.png)',
    )
    parser.add_argument('--json', type=_path, metavar='FILE', help='also write the results there')
    _backend_arguments(parser)


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    _model_argument(parser)
    _class_argument(parser, 'none; needed if the model knows several')
    parser.add_argument(
        'images', type=_path, nargs='+', metavar='IMAGE_OR_FOLDER', help='images of good parts'
    )
    parser.add_argument(
        '--accept',
        action='store_true',
        help='none of these parts is rejected any more, whatever the rate says: somebody has '
        'looked at them and called them good',
    )
    _device_arguments(parser)


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _model_argument(parser)
    parser.add_argument(
        '--backend', required=True, metavar='NAME', help='onnx or openvino (required)'
    )
    parser.add_argument(
        '--output',
        type=_path,
        required=True,
        metavar='FILE',
        help='model file to write, *.onnx or *.xml; an existing one is replaced (required)',
    )


def _benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'models',
        type=_path,
        nargs='+',
        metavar='MODEL',
        help='model files, written by train or export',
    )
    parser.add_argument(
        '--images',
        type=_path,
        action='append',
        metavar='IMAGE_OR_FOLDER',
        help='images to inspect; may be repeated (default: a generated part of the size that the '
        'model was trained on)',
    )
    parser.add_argument(
        '--batch',
        type=_whole_from(1),
        action='append',
        metavar='N',
        help='images at a time; may be repeated (default: 1)',
    )
    parser.add_argument(
        '--runs',
        type=_whole_from(5),
        default=50,
        metavar='N',
        help='inspections of each batch (default: %(default)s)',
    )
    parser.add_argument('--json', type=_path, metavar='FILE', help='also write the figures there')
    _backend_arguments(parser)


def _extract_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'recording', type=_path, metavar='RECORDING', help='folder that ros2 bag record wrote'
    )
    parser.add_argument(
        '--topic', required=True, metavar='TOPIC', help='image topic, raw or compressed (required)'
    )
    parser.add_argument(
        '--output',
        type=_path,
        required=True,
        metavar='DIR',
        help='folder for the images; made if it is missing (required)',
    )
    parser.add_argument(
        '--images',
        type=_whole_from(1),
        default=10,
        metavar='N',
        help='images to take (default: %(default)s)',
    )


def _model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('model', type=_path, metavar='MODEL', help='model file, written by train')


def _class_argument(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        '--class',
        dest='part_class',
        default='',
        metavar='NAME',
        help=f'class of the parts, of a model that knows several (default: {default})',
    )


def _device_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--device',
        default='auto',
        metavar='NAME',
        help='cpu, cuda, cuda:1, or auto: a GPU if there is one (default: %(default)s)',
    )
    parser.add_argument(
        '--threads',
        type=_whole_from(0),
        default=0,
        metavar='N',
        help='CPU threads to use (default: as many as torch chooses)',
    )


def _backend_arguments(parser: argparse.ArgumentParser) -> None:
    _device_arguments(parser)
    parser.add_argument(
        '--precision',
        default='float32',
        metavar='NAME',
        help='what networks compute in: float32, bfloat16, or float16, as far as the device has it '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile a .safetensors model before the first image, which takes a minute',
    )


def _path(text: str) -> Path:
    """A path; ~ is the home directory also where no shell has seen it, as in launch arguments."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _whole_from(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            msg = f'{text!r} is no whole number from {least} up'
            raise argparse.ArgumentTypeError(msg)
        return number

    return whole


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 0.5:
        msg = f'{text!r} is no number between 0 and 0.5'
        raise argparse.ArgumentTypeError(msg)
    return rate


if __name__ == '__main__':
    sys.exit(main())
