# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Backends that run a detector, behind one interface: PyTorch, ONNX Runtime, OpenVINO."""
