# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Node parameters, declared once from a table."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.validate_topic_name import validate_topic_name


@dataclass(frozen=True)
class Parameter:
    """One row of a node's parameter table.

    Attributes:
        name: Parameter name.
        default: Default value; its type is the parameter's.
        description: What it is, with unit and meaning of special values.
        limits: Smallest and largest value of a number.
        choices: Allowed strings; empty allows any.
        check: Called with a value; raises ValueError, in one line, if it is not allowed.
        read_only: Cannot change once the node runs.
    """

    name: str
    default: Any
    description: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    read_only: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Describe the parameter to ROS tools."""
        descriptor = ParameterDescriptor(
            description=self.description,
            additional_constraints=f'one of {", ".join(self.choices)}' if self.choices else '',
            read_only=self.read_only,
        )
        if self.limits and isinstance(self.default, float):
            low, high = self.limits
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif self.limits:
            low, high = map(int, self.limits)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        return descriptor


class ParameterTable:
    """Declares a table of parameters on a node and refuses values that are not allowed.

    Args:
        node: The node.
        rows: The table.
        prefix: Goes before every name, such as `front.`: several tables of the same rows.
    """

    def __init__(self, node: Node, rows: tuple[Parameter, ...], prefix: str = '') -> None:
        self._node = node
        self._prefix = prefix
        self._rows = {prefix + row.name: row for row in rows}
        for name, row in self._rows.items():
            if not node.has_parameter(name):
                node.declare_parameter(name, row.default, row.descriptor())
                self._require_allowed(name, row, node.get_parameter(name).value)
        node.add_on_set_parameters_callback(self._validate)

    def __getitem__(self, name: str) -> Any:
        return self._node.get_parameter(self._prefix + name).value

    def changed(self, parameters: list[RosParameter]) -> dict[str, Any]:
        """Return those of changed parameters that are in this table, by name without prefix."""
        return {
            parameter.name.removeprefix(self._prefix): parameter.value
            for parameter in parameters
            if parameter.name in self._rows
        }

    def _validate(self, parameters: list[RosParameter]) -> SetParametersResult:
        for parameter in parameters:
            row = self._rows.get(parameter.name)
            try:
                if row:
                    self._require_allowed(parameter.name, row, parameter.value)
            except ValueError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    @staticmethod
    def _require_allowed(name: str, row: Parameter, value: object) -> None:
        if row.choices and value not in row.choices:
            msg = f'{name} is {value!r}: it must be one of {", ".join(row.choices)}'
            raise ValueError(msg)
        if row.check:
            try:
                row.check(value)
            except ValueError as error:
                msg = f'{name} is {value!r}: {error}'
                raise ValueError(msg) from error


def check_name(name: str) -> None:
    """Refuse what is no name of a topic or node; empty is none, which is allowed.

    Raises:
        ValueError: It has characters that names do not have; one line.
    """
    try:
        if name:
            validate_topic_name(name)
    except InvalidTopicNameException as error:
        msg = str(error).splitlines()[0].removesuffix(':')
        raise ValueError(msg) from error


def warn_of_unknown(node: Node, expected: tuple[str, ...] = ()) -> None:
    """Warn of parameters that were given to a node and that it does not have: rclpy ignores them.

    Args:
        node: The node, with all its parameters declared.
        expected: Names that begin with one of these are no mistake.
    """
    known = [*node._parameters]
    unknown = []
    # The only list of what was given, on the command line, in a file or by a launch file.
    for name in node._parameter_overrides:
        if name not in known and not name.startswith((*expected, 'qos_overrides.')):
            near = get_close_matches(name, known, 1)
            unknown.append(f'{name} ({near[0]}?)' if near else name)
    if unknown:
        node.get_logger().warning(f'no such parameters, ignored: {", ".join(unknown)}')
