# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Flow-based visual defect inspection for ROS 2."""

import os

__version__ = '0.1.0'

# A cell runs several processes on a few cores. By default the threads of GNU OpenMP, which torch is
# built with, spin for long while they wait, and take the cores from those that work: two trainings
# on two cores were 14 times slower so, and one alone was no faster. Read when torch is loaded.
os.environ.setdefault('GOMP_SPINCOUNT', '1000')
