# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes, thin adapters around the rest of the package, which needs no ROS installation."""
