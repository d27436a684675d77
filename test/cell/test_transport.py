# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Nodes that publish images use shared memory unless the user has chosen a transport."""

from flow_anomaly_ros.cell.transport import PROFILE_VARIABLE, transport_environment
import pytest

TRANSPORT_VARIABLES = (PROFILE_VARIABLE, 'FASTDDS_BUILTIN_TRANSPORTS')


@pytest.fixture(autouse=True)
def without_transport(monkeypatch):
    """Remove the choice of a transport from the environment."""
    for name in TRANSPORT_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_variable_selects_the_profile():
    assert transport_environment('fastdds.xml') == {'FASTRTPS_DEFAULT_PROFILES_FILE': 'fastdds.xml'}


@pytest.mark.parametrize('name', TRANSPORT_VARIABLES)
def test_the_transport_that_the_user_has_chosen_stays(monkeypatch, name):
    monkeypatch.setenv(name, 'UDPv4')
    assert transport_environment('fastdds.xml') == {}
