# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The machining cell: one decision per part from the verdicts of its cameras. No ROS in here."""
