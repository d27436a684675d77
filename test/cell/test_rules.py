# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Rules that contradict themselves are refused."""

import dataclasses

from flow_anomaly_ros.cell.rules import Rules
import pytest


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'least_defects': 0}, 'least_defects is 0'),
        ({'least_defects': 3}, 'least_defects is 3'),
        ({'uncertain': 'maybe'}, 'uncertain'),
        ({'on_missing': 'pass'}, 'on_missing'),
        ({'timeout': 0.4}, 'timeout'),
        # Longer than the window, but shorter than window + tolerance.
        ({'timeout': 0.52}, 'timeout'),
    ],
)
def test_invalid_rules_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Rules(('front', 'back')), **changes)
