# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly export`: write a model for a faster runtime."""

import argparse

from flow_anomaly_ros.commands.arguments import add_model, path

SUMMARY = 'write a model for a faster runtime'
DESCRIPTION = """\
Write a model for ONNX Runtime (.onnx) or OpenVINO (.xml and .bin): one graph from RGB bytes of any
size to score map and image score. It replaces the .safetensors file everywhere except in calibrate,
export and predict --explain, with the thresholds that the file has now. Needs the packages onnx and
onnxscript, and onnxruntime or openvino."""
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
