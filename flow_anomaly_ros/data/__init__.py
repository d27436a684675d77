# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0

"""Where images come from: files, folders of good and defective parts, generated parts."""
