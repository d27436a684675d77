# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO, for models that `flow-anomaly export --backend openvino` wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow_anomaly_ros.runtime.artifact import MANIFEST_KEY
from flow_anomaly_ros.runtime.backends.exported import ExportedBackend, library, unusable
from flow_anomaly_ros.runtime.manifest import Manifest
import numpy as np
import torch

# What OpenVINO calls the precisions.
HINTS = {'float32': 'f32', 'bfloat16': 'bf16', 'float16': 'f16'}


class OpenVinoBackend(ExportedBackend):
    """An exported model in OpenVINO.

    Args:
        path: The .xml file; the .bin file lies beside it.
        device: `auto` or `cpu`, whose threads are as many as torch's, or a device of OpenVINO's,
            such as `gpu` for Intel graphics.
        precision: One of `PRECISIONS`.

    Raises:
        ArtifactError: The file cannot be used; one line.
        ValueError: The device cannot; one line.
    """

    def __init__(self, path: Path, device: str = 'auto', precision: str = 'float32') -> None:
        openvino = library('openvino', path)
        core = openvino.Core()
        target = 'CPU' if device == 'auto' else device.upper()
        available = {name.partition('.')[0] for name in core.available_devices}
        if target.partition('.')[0] not in available:
            known = ', '.join(sorted(available)).lower()
            msg = f'device {device!r} cannot be used for an OpenVINO model: give auto or {known}'
            raise ValueError(msg)
        options: dict[str, object] = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': HINTS[precision],
        }
        if target == 'CPU':
            options['INFERENCE_NUM_THREADS'] = torch.get_num_threads()
        try:
            model = core.read_model(path)
            self.manifest = Manifest.from_json(model.get_rt_info(MANIFEST_KEY).astype(str))

            def compiled(count: int) -> Any:
                # All images of a batch come in one size: nothing is left to resize.
                shapes = {'images': [count, *self.manifest.seen_size, 3]}
                if len(self.manifest.classes) > 1:
                    shapes['classes'] = [count]
                model.reshape(shapes)
                return core.compile_model(model, target, options)

            # One image by itself, as it mostly comes, takes a tenth less time in a model that does
            # not know of more.
            self._model, self._model_of_one = compiled(-1), compiled(1)
        except Exception as error:
            raise unusable(path, error) from error
        self.name = f'OpenVINO on {target.lower()}'

    def run(self, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Run the graph; see `ExportedBackend.run`."""
        model = self._model_of_one if len(inputs['images']) == 1 else self._model
        return [*model(inputs).values()]

    def close(self) -> None:
        """Free the device's memory."""
        del self._model, self._model_of_one
