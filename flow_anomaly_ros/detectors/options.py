# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Options of a method: dataclass fields that carry their own range, and the checks of these."""

import dataclasses
from dataclasses import dataclass, field
import math
from typing import Any

METADATA_KEY = 'flow_anomaly_ros'


@dataclass(frozen=True)
class OptionRange:
    """What values an option takes; of a tuple, what each of its elements is.

    Attributes:
        minimum: Smallest value.
        maximum: Largest value.
        above: Values are greater than this.
        below: Values are less than this.
        choices: Allowed values; empty allows any.
        parity: `even` or `odd`; empty allows both.
        group: Stage of the method that the option belongs to, for lists of options.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    parity: str = ''
    group: str = ''

    def contains(self, value: Any) -> bool:
        """Tell whether the option takes a value."""
        if self.choices:
            return value in self.choices
        # Text without choices is free; a number that is not finite compares false to any bound.
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (not self.parity or value % 2 == (self.parity == 'odd'))
            and (not isinstance(value, float) or math.isfinite(value))
        )

    def __str__(self) -> str:
        """Describe the range, such as `0 or more`; empty where any value is allowed."""
        if self.choices:
            return f'one of {", ".join(map(str, self.choices))}'
        words = [self.parity] if self.parity else []
        has_upper = self.maximum is not None or self.below is not None
        if self.minimum is not None:
            words.append(f'at least {self.minimum:g}' if has_upper else f'{self.minimum:g} or more')
        if self.above is not None:
            words.append(f'greater than {self.above:g}')
        if self.maximum is not None:
            words.append(f'at most {self.maximum:g}')
        if self.below is not None:
            words.append(f'less than {self.below:g}')
        return ' and '.join(words)


def option(default: Any, group: str = '', **limits: Any) -> Any:
    """Declare a field of a method's configuration.

    Args:
        default: Default value.
        group: See `OptionRange`.
        limits: Further fields of `OptionRange`.
    """
    return field(default=default, metadata={METADATA_KEY: OptionRange(group=group, **limits)})


def option_range(option_field: dataclasses.Field) -> OptionRange:
    """Return the range of a field that `option` declared; any value for other fields."""
    return option_field.metadata.get(METADATA_KEY, OptionRange())


def check_ranges(config: Any) -> None:
    """Check every field of a configuration against its range.

    Raises:
        ValueError: A value is out of range; one line.
    """
    for option_field in dataclasses.fields(config):
        allowed = option_range(option_field)
        value = getattr(config, option_field.name)
        elements = value if isinstance(value, tuple) else (value,)
        wanted = f'{allowed}, for each element' if isinstance(value, tuple) else str(allowed)
        check_option(
            all(element is None or allowed.contains(element) for element in elements),
            option_field.name,
            value,
            wanted,
        )


def check_option(is_valid: bool, name: str, value: object, wanted: str) -> None:
    """Refuse an option's value.

    Args:
        is_valid: Whether the value can be used.
        name: Name of the option.
        value: Its value.
        wanted: What it must be.

    Raises:
        ValueError: It cannot be used; one line.
    """
    if not is_valid:
        shown = list(value) if isinstance(value, tuple) else value
        msg = f'{name} is {shown!r}: it must be {wanted}'
        raise ValueError(msg)
