# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Sources of images: files, datasets, recordings, generated parts and synthetic anomalies."""
