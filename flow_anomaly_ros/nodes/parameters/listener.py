# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Declares the parameters of a dataclass on a node and follows their changes."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from flow_anomaly_ros.nodes.parameters.declaration import ParameterInfo, parameters_of
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

T = TypeVar('T')
# Called with the values and the names of the parameters that were set.
ChangeCallback = Callable[[T, frozenset[str]], None]


class ParameterListener(Generic[T]):
    """Declares parameters on a node, refuses values that are not allowed, and follows changes.

    Args:
        node: The node. Parameters that it has already are not declared again.
        kind: Dataclass whose fields are made with `parameter`.
        prefix: Precedes every parameter name, such as `front.`; several listeners of one node may
            have the same dataclass.

    Raises:
        ValueError: A parameter was given a value that is not allowed; one line.
    """

    def __init__(self, node: Node, kind: type[T], prefix: str = '') -> None:
        self._kind = kind
        self._prefix = prefix
        self._infos = {info.name: info for info in parameters_of(kind)}
        self._validate: ChangeCallback[T] | None = None
        self._apply: ChangeCallback[T] | None = None
        values = {}
        for name, info in self._infos.items():
            if not node.has_parameter(prefix + name):
                node.declare_parameter(prefix + name, _to_ros(info.default), _descriptor(info))
            values[name] = _from_ros(node.get_parameter(prefix + name))
            _require_allowed(prefix + name, info, values[name])
        self._values = kind(**values)
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._on_changed)

    @property
    def values(self) -> T:
        """The present values; a change of parameters replaces this object."""
        return self._values

    def on_change(self, apply: ChangeCallback[T], validate: ChangeCallback[T]) -> None:
        """Call functions whenever some of the parameters are set, even to the values they have.

        Args:
            apply: Called when the parameters have been set.
            validate: Called before that, with the values that are proposed; raises ValueError, in
                one line, to refuse them.
        """
        self._apply, self._validate = apply, validate

    def _changes(self, parameters: list[RosParameter]) -> dict[str, Any]:
        return {
            parameter.name.removeprefix(self._prefix): _from_ros(parameter)
            for parameter in parameters
            if parameter.name.startswith(self._prefix)
            and parameter.name.removeprefix(self._prefix) in self._infos
        }

    def _changed(self, changes: dict[str, Any]) -> T:
        return self._kind(**(vars(self._values) | changes))

    def _on_set(self, parameters: list[RosParameter]) -> SetParametersResult:
        changes = self._changes(parameters)
        try:
            for name, value in changes.items():
                _require_allowed(self._prefix + name, self._infos[name], value)
            if changes and self._validate:
                self._validate(self._changed(changes), frozenset(changes))
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_changed(self, parameters: list[RosParameter]) -> None:
        changes = self._changes(parameters)
        if not changes:
            return
        self._values = self._changed(changes)
        if self._apply:
            self._apply(self._values, frozenset(changes))


def warn_unknown_parameters(node: Node, ignored_prefixes: tuple[str, ...] = ()) -> None:
    """Warn about parameters that were given to a node but do not exist: rclpy ignores them.

    Args:
        node: The node, with all its parameters declared.
        ignored_prefixes: Names that begin with one of these are not reported.
    """
    known = [*node._parameters]
    unknown = []
    # rclpy lists what came from the command line and from parameter files nowhere else.
    for name in node._parameter_overrides:
        if name not in known and not name.startswith((*ignored_prefixes, 'qos_overrides.')):
            near = get_close_matches(name, known, 1)
            unknown.append(f'{name} (did you mean {near[0]}?)' if near else name)
    if unknown:
        node.get_logger().warning(f'ignoring unknown parameters: {", ".join(unknown)}')


def _descriptor(info: ParameterInfo) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=info.description,
        additional_constraints=f'one of {", ".join(info.choices)}' if info.choices else '',
        read_only=info.read_only,
    )
    if info.limits and isinstance(info.default, float):
        low, high = info.limits
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif info.limits:
        low, high = map(int, info.limits)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return descriptor


def _require_allowed(name: str, info: ParameterInfo, value: Any) -> None:
    if info.choices and value not in info.choices:
        msg = f'parameter {name} is {value!r}: it must be one of {", ".join(info.choices)}'
        raise ValueError(msg)
    if info.is_ros_name and value:
        try:
            validate_topic_name(value)
        except InvalidTopicNameException as error:
            reason = str(error).splitlines()[0].removesuffix(':')
            msg = f'parameter {name} is {value!r}: {reason}'
            raise ValueError(msg) from error


def _to_ros(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _from_ros(parameter: RosParameter) -> Any:
    value = parameter.value
    return tuple(value) if isinstance(value, list) else value
