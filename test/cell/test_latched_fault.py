# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A fault stays raised until it is cleared or expires."""

from flow_anomaly_ros.cell.latched_fault import LatchedFault


def test_the_lifetime_of_a_fault_counts_from_the_latest_one():
    fault = LatchedFault()
    fault.set('first', 0.0)
    fault.set('second', 4.0)
    fault.expire(6.0, after=5.0)
    assert fault.text == 'second'
    fault.expire(9.0, after=5.0)
    assert (fault.text, fault.count) == ('', 2)


def test_a_fault_without_a_lifetime_stays_until_it_is_cleared():
    fault = LatchedFault()
    fault.set('first', 0.0)
    fault.expire(1e6, after=0.0)
    assert fault.text == 'first'
    fault.clear()
    assert (fault.text, fault.count) == ('', 1)
