# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Reads options of a method from a YAML file and from name=value arguments."""

from collections.abc import Sequence
from pathlib import Path
import re

import yaml


class _Loader(yaml.SafeLoader):
    """Loads plain values only, and numbers such as 1e-3."""


# YAML 1.1 reads 1e-3 as text, since it has no dot.
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'^[-+]?[0-9]+[eE][-+]?[0-9]+$'), list('-+0123456789')
)


def read_options(path: Path) -> dict[str, object]:
    """Read a YAML file of option names and values.

    Raises:
        ValueError: The file is missing, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, 'strerror', None) or 'not a text file'
        msg = f'cannot read options from {path}: {why}'
        raise ValueError(msg) from error
    values = _parse(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        msg = f'{path} must contain lines such as "flow_steps: 300"'
        raise ValueError(msg)
    return values


def parse_assignments(assignments: Sequence[str]) -> dict[str, object]:
    """Turn arguments such as `flow_steps=300` or `scales=[1.0, 0.5]` into options.

    Raises:
        ValueError: No name, no equals sign, or a value that is not YAML.
    """
    options = {}
    for assignment in assignments:
        name, equals, value = assignment.partition('=')
        if not name or not equals:
            msg = f'{assignment!r} is not of the form name=value, such as flow_steps=300'
            raise ValueError(msg)
        options[name] = _parse(value, assignment)
    return options


def _parse(text: str, where: str) -> object:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        msg = f'{where} is not valid YAML: {" ".join(str(error).split())}'
        raise ValueError(msg) from error
