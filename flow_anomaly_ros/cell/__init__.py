# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""From the verdicts of several cameras to one decision per part; no ROS in here."""
