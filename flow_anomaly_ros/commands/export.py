# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly export`: export a model to ONNX Runtime or OpenVINO."""

import argparse

from flow_anomaly_ros.commands.arguments import add_model, path

SUMMARY = 'export a model to ONNX Runtime or OpenVINO'
DESCRIPTION = """\
Write a model for ONNX Runtime (.onnx) or OpenVINO (.xml and .bin): one graph from uint8 RGB images
of any size to a score map and an image score. It can be used like the .safetensors file, except in
calibrate, export and predict --explain, and keeps the thresholds of the time of export. Needs the
packages onnx and onnxscript, and onnxruntime or openvino."""
EXAMPLE = 'export model.safetensors --backend onnx --output model.onnx'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    parser.add_argument(
        '--backend', required=True, metavar='NAME', help='onnx or openvino (required)'
    )
    parser.add_argument(
        '--output',
        type=path,
        required=True,
        metavar='FILE',
        help='model file to write, *.onnx or *.xml; an existing file is replaced (required)',
    )


def run(arguments: argparse.Namespace) -> int:
    """Export; see `actions.export.run`."""
    from flow_anomaly_ros.commands.actions import export

    return export.run(arguments)
