# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Flow-based visual defect inspection for ROS 2."""

import os

__version__ = '0.1.0'

# A cell runs several processes on a few cores. By default OpenMP's threads spin while they wait
# and take the cores from those that work; read when torch is loaded, so it has to be set before.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
