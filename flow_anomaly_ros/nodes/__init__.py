# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thin ROS 2 adapters around the pure core; importing this package needs no ROS installation."""
