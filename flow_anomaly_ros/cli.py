# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The command `flow-anomaly`: arguments in, one line per error out."""

import argparse
from collections.abc import Sequence
import contextlib
import os
import sys
from types import ModuleType
from typing import NoReturn

from flow_anomaly_ros import __version__
from flow_anomaly_ros.commands import (
    benchmark,
    calibrate,
    evaluate,
    export,
    extract,
    methods,
    predict,
    train,
)
from flow_anomaly_ros.errors import error_summary

PROGRAM = 'flow-anomaly'
COMMANDS: dict[str, ModuleType] = {
    module.__name__.rpartition('.')[2]: module
    for module in (train, evaluate, predict, calibrate, export, benchmark, extract, methods)
}
# Commands that share their work among the processes of torchrun.
SHARED = ('train', 'predict')
EXIT_STATUS = """\
exit status:
  0    success
  1    evaluate or predict could not read some images (named on stderr)
  2    failure; one line on stderr gives the reason
  130  interrupted with Ctrl-C
  141  the reader of stdout has closed it
"""


class _Parser(argparse.ArgumentParser):
    """Leaves the error message to `main`, which prints one line without the usage."""

    def error(self, message: str) -> NoReturn:
        msg = f'{message}; see {self.prog} --help'
        raise ValueError(msg)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        with _processes() as is_shared:
            parsed = parse(arguments)
            if is_shared and parsed.command not in SHARED:
                msg = f'{parsed.command} cannot run in several processes: start it without torchrun'
                raise ValueError(msg)
            status = COMMANDS[parsed.command].run(parsed)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        _print_error('interrupted')
        return 130
    except BrokenPipeError:
        # The reader of the output has closed it, as `head` does. The rest of the buffer must not
        # raise again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        _print_error(f'{error.filename}: {error.strerror}' if error.strerror else str(error))
        return 2
    except ValueError as error:
        _print_error(str(error))
        return 2
    except (MemoryError, RuntimeError) as error:
        # torch has no class of its own for a lack of CPU memory.
        if not isinstance(error, MemoryError) and 'memory' not in str(error):
            raise
        _print_error(f'out of memory: use fewer or smaller images ({error_summary(error, 200)})')
        return 2


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line, without running the command.

    Raises:
        ValueError: A wrong argument; one line.
        SystemExit: After --help or --version.
    """
    parsed, unknown = _parser().parse_known_args(arguments)
    if unknown:
        # argparse itself would refer to the help of the whole program.
        msg = f'unknown arguments: {" ".join(unknown)}; see {PROGRAM} {parsed.command} --help'
        raise ValueError(msg)
    return parsed


def _processes() -> contextlib.AbstractContextManager[bool]:
    """Join torchrun's process group, if it has started this process; yields whether it has."""
    if 'WORLD_SIZE' not in os.environ:
        return contextlib.nullcontext(False)
    # Imported here: --help must not wait seconds for torch.
    from flow_anomaly_ros.data_parallel import process_group

    return process_group()


def _print_error(message: str) -> None:
    print(f'{PROGRAM}: {" ".join(message.split())}', file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description='Find defects on parts with models that are trained on images of good ones.',
        epilog=f'{EXIT_STATUS}\nEach command has its own --help. {" and ".join(SHARED)} can share '
        'their work among\nthe processes of torchrun.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'{PROGRAM} {__version__}')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=f'example:\n  {PROGRAM} {command.EXAMPLE}\n\n{EXIT_STATUS}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
    return parser


if __name__ == '__main__':
    sys.exit(main())
