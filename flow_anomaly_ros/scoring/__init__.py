# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds, masks, regions and verdicts from score maps, and metrics of their accuracy."""
