# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A network in PyTorch and exported; for our environment and that of the peers."""

from collections.abc import Callable, Iterator
from pathlib import Path
import warnings

import onnxruntime
import openvino
import torch
from torch import nn

# How the names of our models end, by the names of backends.
BACKENDS = {'PyTorch': '.safetensors', 'ONNX Runtime': '.onnx', 'OpenVINO': '.xml'}


def on_backends(
    model: nn.Module, images: torch.Tensor, folder: Path, threads: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give functions that run a model once, by the names of backends.

    Args:
        model: In evaluation mode.
        images: What it takes.
        folder: For the exported model.
        threads: CPU threads of the exported ones; PyTorch has those of the process.
    """

    @torch.inference_mode()
    def eager() -> object:
        return model(images)

    yield 'PyTorch', eager
    path = folder / 'model.onnx'
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')
            torch.onnx.export(model, (images,), path, dynamo=True, verbose=False, opset_version=18)
    except Exception as error:
        print(f'not exported: {type(model).__name__}: {error}'[:300])
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    given = {session.get_inputs()[0].name: images.numpy()}
    yield 'ONNX Runtime', lambda: session.run(None, given)
    compiled = openvino.Core().compile_model(
        path,
        'CPU',
        {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': 'f32',
            'INFERENCE_NUM_THREADS': threads,
        },
    )
    array = images.numpy()
    yield 'OpenVINO', lambda: compiled(array)
