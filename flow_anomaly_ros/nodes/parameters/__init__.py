# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of each node, one file per node; only `listener` needs a ROS installation."""
