# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the test suite itself has to keep to."""

from collections import Counter
from pathlib import Path


def test_no_two_test_files_have_the_same_name():
    """Where launch_testing is installed pytest cannot tell them apart, and runs none."""
    names = Counter(path.name for path in Path(__file__).parent.rglob('test_*.py'))
    assert [name for name, count in names.items() if count > 1] == []
