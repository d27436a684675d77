# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Nodes that publish images get shared memory for them, unless the user has chosen otherwise."""

from flow_anomaly_ros.cell.transport import PROFILE_VARIABLE, transport_environment
import pytest

CHOICES = (PROFILE_VARIABLE, 'FASTDDS_BUILTIN_TRANSPORTS')


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """An environment that says nothing."""
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)


def test_the_profile_is_told():
    assert transport_environment('fastdds.xml') == {'FASTRTPS_DEFAULT_PROFILES_FILE': 'fastdds.xml'}


@pytest.mark.parametrize('name', CHOICES)
def test_what_the_user_has_chosen_stays(monkeypatch, name):
    monkeypatch.setenv(name, 'UDPv4')
    assert transport_environment('fastdds.xml') == {}
