# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Flow-based visual defect inspection for ROS 2."""

__version__ = '0.1.0'
