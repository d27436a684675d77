# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the commands of `flow-anomaly` do, one file each."""
