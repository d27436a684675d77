# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""TimeNet: one model for many parts, which restores each in one step of a rectified flow."""
