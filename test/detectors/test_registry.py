# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Options from files and arguments become a configuration, or one line that says why not."""

import dataclasses

from flow_anomaly_ros.detectors.base import Detector, FitReport
from flow_anomaly_ros.detectors.method import Method
from flow_anomaly_ros.detectors.registry import (
    build_config,
    ConfigError,
    find_method,
    METHODS,
)
import pytest


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    channels: int = 3
    rate: float = 0.5
    name: str = 'toy'
    deep: bool = False
    sizes: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    limit: float | None = None

    def __post_init__(self):
        if self.rate < 0:
            msg = f'rate is {self.rate}: it must be 0 or more'
            raise ValueError(msg)


TOY = Method(
    name='toy',
    summary='a toy',
    source='none',
    config=ToyConfig,
    detector=Detector,
    fit=lambda *_, **__: FitReport(),
    presets={'fast': {'rate': 2.0}},
    renamed_options={'speed_limit': 'limit', 'layers': 'levels'},
    renamed_values={'levels': {'old': 'new'}},
    former_defaults={3: {'rate': 0.1}, 5: {'deep': True}},
    renamed_tensors={r'^old\.': 'new.'},
)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(METHODS, 'toy', TOY)


def refusal(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert '\n' not in message
    return message


@pytest.mark.parametrize('method', METHODS)
def test_methods_are_registered_under_their_name_with_a_frozen_configuration(method):
    found = find_method(method)
    assert found.name == method
    assert found.summary
    assert found.source
    config = build_config(method, {})
    assert type(config) is found.config
    assert config.channels in (1, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.channels = 1


@pytest.mark.parametrize('method', METHODS)
def test_a_configuration_survives_plain_values(method):
    config = build_config(method, {'channels': 1})
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }
    assert build_config(method, plain) == config


def test_valid_values_are_accepted():
    values = {'channels': 1, 'rate': 0.25, 'name': 'x', 'deep': True, 'limit': 2.5}
    assert dataclasses.asdict(build_config('toy', values)).items() >= values.items()


@pytest.mark.parametrize('sequence', [list, tuple])
def test_lists_become_tuples(sequence):
    config = build_config('toy', {'levels': sequence(['a', 'b'])})
    assert config.levels == ('a', 'b')


def test_a_single_value_stands_for_a_list_of_it():
    config = build_config('toy', {'levels': 'a', 'sizes': 2})
    assert config.levels == ('a',)
    assert config.sizes == (2.0,)


def test_integers_are_accepted_for_float_options():
    config = build_config('toy', {'rate': 2, 'sizes': [2, 0.5], 'limit': 3})
    values = (config.rate, *config.sizes, config.limit)
    assert values == (2, 2, 0.5, 3)
    assert all(type(value) is float for value in values)


def test_none_is_accepted_for_optional_values():
    assert build_config('toy', {'limit': None}).limit is None


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('channels', True),
        ('channels', 3.0),
        ('channels', '3'),
        ('channels', None),
        ('rate', False),
        ('rate', '0.1\n'),
        ('name', 1),
        ('deep', 1),
        ('sizes', '0.5'),
        ('sizes', [0.5, 'a']),
        ('sizes', [True]),
        ('levels', ['a', 1]),
        ('limit', 'none'),
        ('limit', True),
    ],
)
def test_wrong_types_are_refused(option, value):
    message = refusal(build_config, 'toy', {option: value})
    assert message.startswith('toy: ')
    assert option in message


def test_values_out_of_range_are_refused():
    message = refusal(build_config, 'toy', {'rate': -1})
    assert message == 'toy: rate is -1.0: it must be 0 or more'


def test_unknown_options_are_named_with_the_known_ones():
    message = refusal(build_config, 'toy', {'speed': 1, 'colour': 2, 'rate': 1})
    assert 'colour, speed' in message
    assert 'channels, deep, levels, limit, name, rate, sizes' in message


@pytest.mark.parametrize('call', [find_method, lambda method: build_config(method, {})])
@pytest.mark.parametrize('method', ['no_such_method', '', 'Toy'])
def test_unknown_methods_are_refused(call, method):
    message = refusal(call, method)
    assert repr(method) in message
    assert 'restoration' in message


def test_former_names_of_options_and_values_still_work():
    config = build_config('toy', {'speed_limit': 2.5, 'layers': ['old', 'other']})
    assert config.limit == 2.5
    assert config.levels == ('new', 'other')


def test_former_names_are_reported_with_what_to_write():
    options, notes = TOY.current_options({'speed_limit': 2.5, 'layers': 'old', 'rate': 1})
    assert options == {'limit': 2.5, 'levels': 'new', 'rate': 1}
    assert notes == [
        'option speed_limit is now called limit: use limit',
        'option layers is now called levels: use levels',
        'old of option levels is now called new',
    ]


def test_an_option_under_both_its_names_is_refused():
    message = refusal(build_config, 'toy', {'speed_limit': 1, 'limit': 2})
    assert 'speed_limit is the former name of limit' in message


@pytest.mark.parametrize(
    ('version', 'expected'), [(2, {'rate': 0.1, 'deep': True}), (4, {'deep': True}), (5, {})]
)
def test_earlier_model_files_keep_the_defaults_they_were_trained_with(version, expected):
    assert TOY.upgrade_config({}, version) == expected
    assert TOY.upgrade_config({'rate': 3, 'deep': False}, version) == {'rate': 3, 'deep': False}


def test_tensors_of_earlier_model_files_get_their_present_names():
    assert TOY.upgrade_tensors({'old.weight': 1, 'cold.bias': 2}) == {
        'new.weight': 1,
        'cold.bias': 2,
    }


@pytest.mark.parametrize('method', METHODS)
def test_every_former_name_leads_to_an_option_that_exists(method):
    found = find_method(method)
    fields = {field.name for field in dataclasses.fields(found.config)}
    assert set(found.renamed_options.values()) <= fields
    assert not set(found.renamed_options) & fields
    assert set(found.renamed_values) <= fields
