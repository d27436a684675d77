# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime, for models that `flow-anomaly export --backend onnx` wrote."""

from collections.abc import Sequence
from pathlib import Path

from flow_anomaly_ros.runtime.artifact import MANIFEST_KEY
from flow_anomaly_ros.runtime.backends.base import backend_name
from flow_anomaly_ros.runtime.backends.exported import (
    ExportedBackend,
    import_library,
    unusable_file_error,
)
from flow_anomaly_ros.runtime.manifest import Manifest
import numpy as np
import torch

# Execution providers by device name; the CPU runs operators that the others do not support.
PROVIDERS = {
    'cpu': ('CPUExecutionProvider',),
    'cuda': ('CUDAExecutionProvider', 'CPUExecutionProvider'),
    'tensorrt': ('TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider'),
}


class OnnxBackend(ExportedBackend):
    """An exported model in ONNX Runtime.

    Args:
        path: The model file.
        device: `cpu`, `cuda`, `cuda:1`, `tensorrt`, or `auto`: `cuda` if this machine and this
            onnxruntime have it, else `cpu`. Its CPU threads are as many as torch's.
        precision: `float32`; with `tensorrt` also `float16`.

    Raises:
        ArtifactError: The file cannot be used; one line.
        ValueError: The device or the precision is not available; one line.
    """

    def __init__(self, path: Path, device: str = 'auto', precision: str = 'float32') -> None:
        runtime = import_library('onnxruntime', path)
        kind, providers = _providers(runtime.get_available_providers(), device, precision)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Spinning threads would take the cores from other processes of the machine.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        # Fatal errors only: errors are raised as well.
        options.log_severity_level = 4
        try:
            self._session = runtime.InferenceSession(path, options, providers=providers)
            text = self._session.get_modelmeta().custom_metadata_map.get(MANIFEST_KEY, '')
            self.manifest = Manifest.from_json(text)
        except Exception as error:
            # onnxruntime has a class for each thing that can be wrong with a file.
            raise unusable_file_error(path, error) from error
        # onnxruntime silently drops a provider that lacks a library or a device.
        if PROVIDERS[kind][0] not in self._session.get_providers():
            if device != 'auto':
                msg = (
                    f'device {device!r} is not available: {PROVIDERS[kind][0]} failed to '
                    'initialise; check driver, libraries and device id'
                )
                raise ValueError(msg)
            kind = 'cpu'
        self._session.disable_fallback()
        self.name = backend_name('ONNX Runtime', precision, kind)

    def run(self, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Run the graph; see `ExportedBackend.run`."""
        return self._session.run(None, inputs)

    def close(self) -> None:
        """Free the device's memory."""
        del self._session


def _providers(
    available: Sequence[str], device: str, precision: str
) -> tuple[str, list[str | tuple[str, dict[str, object]]]]:
    kind, _, number = device.partition(':')
    if kind == 'auto':
        kind = 'cuda' if PROVIDERS['cuda'][0] in available and torch.cuda.is_available() else 'cpu'
    if kind not in PROVIDERS or (number and not number.isdigit()):
        msg = (
            f'device {device!r} is not available for .onnx models: use auto, cpu, cuda or tensorrt'
        )
        raise ValueError(msg)
    if PROVIDERS[kind][0] not in available:
        msg = (
            f'device {device!r} is not available: this onnxruntime has no {PROVIDERS[kind][0]}; '
            'install onnxruntime-gpu instead'
        )
        raise ValueError(msg)
    if precision != 'float32' and (kind, precision) != ('tensorrt', 'float16'):
        msg = f'precision {precision} is not supported by ONNX Runtime on {kind}: use float32'
        raise ValueError(msg)
    options: dict[str, object] = {'device_id': int(number or 0)}
    by_provider = {
        'TensorrtExecutionProvider': {**options, 'trt_fp16_enable': precision == 'float16'},
        'CUDAExecutionProvider': options,
        'CPUExecutionProvider': {},
    }
    return kind, [(name, by_provider[name]) for name in PROVIDERS[kind]]
