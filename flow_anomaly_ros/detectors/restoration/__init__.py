# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Multi-scale restoration with a flow model, after US 2025/0265693 A1."""
