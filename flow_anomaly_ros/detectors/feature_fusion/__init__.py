# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Multi-level feature fusion: texture and meaning fused, trained with pseudo anomalies."""
