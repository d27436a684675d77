# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""NF-BMR: mapping between pretrained features and the latents of a normalizing flow."""
