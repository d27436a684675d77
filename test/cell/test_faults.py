# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A fault stays until somebody has seen it, or until nothing has gone wrong for a while."""

from flow_anomaly_ros.cell.faults import Fault


def test_a_fault_expires_after_the_latest_thing_that_went_wrong():
    fault = Fault()
    fault.add('first', 0.0)
    fault.add('second', 4.0)
    fault.expire(6.0, after=5.0)
    assert fault.text == 'second'
    fault.expire(9.0, after=5.0)
    assert (fault.text, fault.count) == ('', 2)


def test_a_fault_that_does_not_expire_waits_for_somebody():
    fault = Fault()
    fault.add('first', 0.0)
    fault.expire(1e6, after=0.0)
    assert fault.text == 'first'
    fault.clear()
    assert (fault.text, fault.count) == ('', 1)
