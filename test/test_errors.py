# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages of exceptions fit on one line."""

from flow_anomaly_ros.errors import error_first_line, error_summary
import pytest


def test_a_summary_is_the_whole_message_on_one_line():
    assert error_summary(ValueError('no such\n  file\n')) == 'no such file'
    assert error_summary(ValueError('no such file'), 7) == 'no such'


def test_advice_after_the_first_line_is_dropped():
    assert error_first_line(RuntimeError('cannot connect\nadvice\nstack trace')) == 'cannot connect'


@pytest.mark.parametrize('shorten', [error_summary, error_first_line])
def test_an_empty_message_is_replaced_by_the_class(shorten):
    assert shorten(MemoryError()) == 'MemoryError'
