# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO, for models that `flow-anomaly export --backend openvino` wrote."""

from collections.abc import Sequence
from pathlib import Path

from flow_anomaly_ros.runtime.artifact import ArtifactError, MANIFEST_KEY
from flow_anomaly_ros.runtime.backends.base import backend_name
from flow_anomaly_ros.runtime.backends.exported import (
    ExportedBackend,
    import_library,
    unusable_file_error,
)
from flow_anomaly_ros.runtime.export_formats import OPENVINO_WEIGHTS_SUFFIX
from flow_anomaly_ros.runtime.manifest import Manifest
import numpy as np
import torch

# OpenVINO's names of the precisions.
HINTS = {'float32': 'f32', 'bfloat16': 'bf16', 'float16': 'f16'}
# Images of a batch that are inferred in parallel, each by a share of the threads: faster than one
# after the other by all threads.
PARALLEL_REQUESTS = 2


class OpenVinoBackend(ExportedBackend):
    """An exported model in OpenVINO.

    Args:
        path: The .xml file; the .bin file lies beside it.
        device: `auto` or `cpu`, whose threads are as many as torch's, or a device of OpenVINO's,
            such as `gpu` for Intel graphics.
        precision: One of `PRECISIONS`.

    Raises:
        ArtifactError: The file cannot be used; one line.
        ValueError: The device is not available; one line.
    """

    def __init__(self, path: Path, device: str = 'auto', precision: str = 'float32') -> None:
        openvino = import_library('openvino', path)
        core = openvino.Core()
        target = 'CPU' if device == 'auto' else device.upper()
        available = {name.partition('.')[0] for name in core.available_devices}
        if target.partition('.')[0] not in available:
            known = ', '.join(sorted(available)).lower()
            msg = f'device {device!r} is not available for OpenVINO models: use auto or {known}'
            raise ValueError(msg)
        options: dict[str, object] = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': HINTS[precision],
        }
        if target == 'CPU':
            options['INFERENCE_NUM_THREADS'] = torch.get_num_threads()
        _require_both_files(path)
        try:
            model = core.read_model(path)
            self.manifest = Manifest.from_json(model.get_rt_info(MANIFEST_KEY).astype(str))

            # Images have one size and are inferred singly: a graph of static shapes takes a third
            # less time than one of dynamic shapes.
            shapes = {'images': [1, *self.manifest.network_input_size, 3]}
            if len(self.manifest.classes) > 1:
                shapes['classes'] = [1]
            model.reshape(shapes)
            self._model = throughput_model = core.compile_model(model, target, options)
            parallel_requests = (
                min(PARALLEL_REQUESTS, torch.get_num_threads())
                if target == 'CPU'
                else PARALLEL_REQUESTS
            )
            if parallel_requests > 1:
                options |= {'PERFORMANCE_HINT': 'THROUGHPUT', 'NUM_STREAMS': parallel_requests}
                throughput_model = core.compile_model(model, target, options)
            self._requests = [
                throughput_model.create_infer_request() for _ in range(parallel_requests)
            ]
        except Exception as error:
            raise unusable_file_error(path, error) from error
        self.name = backend_name('OpenVINO', precision, target.lower())

    def run(self, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Run the graph; see `ExportedBackend.run`."""
        image_inputs = [
            {name: values[index : index + 1] for name, values in inputs.items()}
            for index in range(len(inputs['images']))
        ]
        found: list[list[np.ndarray]] = []
        parallel_requests = len(self._requests)
        # The remainder of a batch uses all threads.
        parallel_count = len(image_inputs) - len(image_inputs) % parallel_requests
        for first in range(0, parallel_count, parallel_requests):
            for request, image in zip(self._requests, image_inputs[first:], strict=False):
                request.start_async(image)
            for request in self._requests:
                request.wait()
                found.append([*request.results.values()])
        found += [[*self._model(image).values()] for image in image_inputs[parallel_count:]]
        return [np.concatenate(outputs) for outputs in zip(*found, strict=True)]

    def close(self) -> None:
        """Free the device's memory."""
        del self._model, self._requests


def _require_both_files(path: Path) -> None:
    """Check what OpenVINO itself reports unclearly.

    Raises:
        ArtifactError: The file is not XML or lacks its weights; one line.
    """
    with path.open('rb') as file:
        if file.read(1) != b'<':
            raise unusable_file_error(path, ValueError('not XML'))
    weights = path.with_suffix(OPENVINO_WEIGHTS_SUFFIX)
    if not weights.is_file():
        msg = f'{path} lacks its weights, {weights.name}: copy both files'
        raise ArtifactError(msg)
