# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""File suffixes of exported models, in one place."""

# By the name of the backend that runs them.
EXPORT_SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml'}
# OpenVINO's weights lie beside the .xml file.
OPENVINO_WEIGHTS_SUFFIX = '.bin'


def is_exported(suffix: str) -> bool:
    """Tell whether a file with this suffix belongs to an exported model."""
    return suffix in (*EXPORT_SUFFIXES.values(), OPENVINO_WEIGHTS_SUFFIX)
