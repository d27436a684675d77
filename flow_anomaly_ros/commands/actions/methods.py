# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists the detection methods and their options."""

import argparse
from collections.abc import Mapping
import dataclasses
import inspect
import re
import textwrap
import types
import typing

from flow_anomaly_ros.detectors.options import option_range
from flow_anomaly_ros.detectors.registry import METHODS

TYPE_NAMES = {bool: 'boolean', int: 'integer', float: 'number', str: 'string'}
WIDTH = 96


def run(_arguments: argparse.Namespace) -> int:
    """Print every method with its options."""
    for name, method in sorted(METHODS.items()):
        print(f'{name}: {method.summary} ({method.source})')
        for preset, options in sorted(method.presets.items()):
            print(f'  --preset {preset}: {preset_text(options)}')
        for line in option_lines(method.config):
            print(f'  {line}')
    return 0


def preset_text(options: Mapping[str, object]) -> str:
    """Format a preset the way `--set` takes it."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    return ' '.join(f'{name}={value}' for name, value in values.items())


def option_lines(config_class: type) -> list[str]:
    """Describe the fields of a method's configuration, two lines or more for each."""
    hints = typing.get_type_hints(config_class)
    texts = attribute_texts(config_class)
    lines = []
    group = ''
    for field in dataclasses.fields(config_class):
        allowed = option_range(field)
        if allowed.group != group:
            group = allowed.group
            lines.append(f'[{group}]')
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        kind = ', '.join(filter(None, (type_name(hints[field.name]), str(allowed))))
        lines.append(f'{field.name} = {default!r} ({kind})')
        text = texts.get(field.name, '')
        lines += textwrap.wrap(text, WIDTH, initial_indent='    ', subsequent_indent='    ')
    return lines


def attribute_texts(documented: type) -> dict[str, str]:
    """Read the section `Attributes:` of a Google docstring, as names and descriptions."""
    section = (inspect.getdoc(documented) or '').partition('Attributes:\n')[2].split('\n\n')[0]
    entries = re.findall(r'^ {4}(\w+): (.+(?:\n {5,}.+)*)', section, re.MULTILINE)
    return {name: ' '.join(text.split()) for name, text in entries}


def type_name(kind: typing.Any) -> str:
    """Describe a type in words."""
    if typing.get_origin(kind) is tuple:
        return f'list of {type_name(typing.get_args(kind)[0])}s'
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return ' or '.join(type_name(member) for member in typing.get_args(kind))
    return 'null' if kind is type(None) else TYPE_NAMES.get(kind, kind.__name__)
