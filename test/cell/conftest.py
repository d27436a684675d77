# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A harness around the parts of a cell."""

from flow_anomaly_ros.cell.rules import Rules, Vote
from flow_anomaly_ros.cell.triggered_parts import TriggeredParts
import pytest


class PartsHarness:
    """Drives `Parts` with a simulated clock and records decisions and faults.

    Timestamps are 1000 s ahead of arrivals. With triggers each camera takes one image unless the
    rules of the test differ.
    """

    def __init__(self, parts_class=TriggeredParts, cameras=('front', 'back'), **rules):
        self.now = 0.0
        self.decisions, self.faults = [], []
        self.parts = parts_class(
            Rules(cameras, **({'one_image': parts_class is TriggeredParts} | rules)),
            self.decisions.append,
            lambda text, header: self.faults.append((text, header)),
        )

    def advance(self, seconds):
        self.now += seconds
        self.parts.check(self.now)

    def trigger(self, name, stamp=None):
        self.parts.add_trigger(1000 + (self.now if stamp is None else stamp), name, self.now)

    def verdict(self, camera, verdict, stamp=None, score=0.5):
        stamp = 1000 + (self.now if stamp is None else stamp)
        self.parts.add_verdict(camera, stamp, f'image {camera}', Vote(verdict, score), self.now)

    @property
    def decisions_by_name(self):
        """Decisions as (name, decision)."""
        return [(decision.header, str(decision.decision)) for decision in self.decisions]

    @property
    def outcomes(self):
        """Decisions without names."""
        return [decision for _, decision in self.decisions_by_name]

    @property
    def fault_texts(self):
        return [text for text, _ in self.faults]


@pytest.fixture
def make_harness():
    return PartsHarness
