# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Options carry their ranges, and values out of range are refused in one line."""

from dataclasses import dataclass, fields
import math

from flow_anomaly_ros.detectors.options import check_ranges, option, option_range, OptionRange
from flow_anomaly_ros.detectors.registry import METHODS
import pytest


@dataclass(frozen=True)
class Config:
    count: int = option(1, 'numbers', minimum=1)
    share: float = option(0.5, 'numbers', minimum=0, below=1)
    window: int = option(3, 'numbers', minimum=1, parity='odd')
    kind: str = option('a', choices=('a', 'b'))
    rates: tuple[float, ...] = option((1.0, 2.0), above=0)
    free: str = 'anything'

    def __post_init__(self):
        check_ranges(self)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'count': 0}, 'count is 0: it must be 1 or more'),
        ({'share': 1.0}, 'share is 1.0: it must be at least 0 and less than 1'),
        ({'share': math.nan}, 'share is nan: it must be at least 0 and less than 1'),
        ({'window': 4}, 'window is 4: it must be odd and 1 or more'),
        ({'kind': 'c'}, "kind is 'c': it must be one of a, b"),
        ({'rates': (1.0, 0.0)}, 'rates is [1.0, 0.0]: it must be greater than 0, for each element'),
        ({'rates': (math.inf,)}, 'rates is [inf]: it must be greater than 0, for each element'),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        Config(**values)
    assert str(caught.value) == message


def test_values_in_range_are_accepted():
    assert Config(count=7, share=0.0, window=1, kind='b', rates=(), free='x').count == 7


def test_a_field_knows_its_range_and_group():
    by_name = {field.name: option_range(field) for field in fields(Config)}
    assert by_name['count'] == OptionRange(minimum=1, group='numbers')
    assert str(by_name['free']) == ''


@pytest.mark.parametrize('method', METHODS.values(), ids=METHODS)
def test_every_number_and_choice_of_a_method_has_a_range(method):
    for field in fields(method.config):
        if field.type in ('int', 'float', int, float):
            assert str(option_range(field)), field.name
