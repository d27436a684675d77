# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node as the fields of a dataclass."""

from dataclasses import dataclass, field, fields
from typing import Any, cast, TypeVar

T = TypeVar('T')

_METADATA_KEY = 'parameter'
_TYPE_NAMES = {bool: 'bool', int: 'int', float: 'double', str: 'string', tuple: 'string[]'}


@dataclass(frozen=True)
class ParameterInfo:
    """What is declared about a parameter, see `parameter`."""

    name: str
    default: Any
    description: str
    limits: tuple[float, float] | None
    choices: tuple[str, ...]
    is_ros_name: bool
    read_only: bool
    example: Any

    @property
    def type_name(self) -> str:
        """Its type as the documentation of ROS names it."""
        return _TYPE_NAMES[type(self.default)]


def parameter(
    default: T,
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    is_ros_name: bool = False,
    read_only: bool = False,
    example: T | None = None,
) -> T:
    """Declare a field of a dataclass as a ROS parameter of the field's name.

    Args:
        default: Default value; its type is the parameter's. Lists of strings are tuples here.
        description: Meaning, unit, and meaning of special values.
        limits: Smallest and largest value of a number.
        choices: Allowed strings; empty allows any.
        is_ros_name: Must be a valid name of a topic, service or node, or empty.
        read_only: Cannot change after the node has started.
        example: Value in the parameter file of config/, where that is not the default.

    Returns:
        The field; its type is that of the default, so that type checkers know the attribute's.
    """
    metadata = {
        'default': default,
        'description': description,
        'limits': limits,
        'choices': choices,
        'is_ros_name': is_ros_name,
        'read_only': read_only,
        'example': default if example is None else example,
    }
    return cast(T, field(default=default, metadata={_METADATA_KEY: metadata}))


def parameters_of(kind: type) -> tuple[ParameterInfo, ...]:
    """Return the parameters that a dataclass declares, in the order of its fields."""
    return tuple(
        ParameterInfo(name=declared.name, **declared.metadata[_METADATA_KEY])
        for declared in fields(kind)
    )
