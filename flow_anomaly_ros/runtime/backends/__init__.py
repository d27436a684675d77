# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What runs a detector: PyTorch, ONNX Runtime or OpenVINO, all with one interface."""
