# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""From score maps to masks, regions and verdicts, and the figures that say how good they are."""
