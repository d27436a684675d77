# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""CAINNFlow: a coupling flow with block attention on pretrained features."""
