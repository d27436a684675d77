# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the detector node; those of each camera are in `camera`."""

from dataclasses import dataclass

from flow_anomaly_ros.nodes.parameters.declaration import parameter
from flow_anomaly_ros.runtime.backends.base import PRECISIONS

_AT_LOADING = 'Takes effect when models are loaded: call `~/load_model`.'


@dataclass(frozen=True)
class DetectorParameters:
    """Parameters of the detector node itself."""

    device: str = parameter(
        'auto',
        'Device of the models: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`; for '
        '.onnx models also `tensorrt`, for OpenVINO models also the names of its devices. '
        f'{_AT_LOADING}',
    )
    precision: str = parameter(
        'float32',
        'Precision that the networks compute in (`float32`, `bfloat16` or `float16`), if the '
        'device supports it. Thresholds are calibrated with `float32`: check them after a change. '
        f'A model whose golden sample is not ok at this precision is not loaded. {_AT_LOADING}',
        choices=PRECISIONS,
    )
    compile: bool = parameter(
        False,
        'Compile .safetensors models with `torch.compile` when they are loaded, which takes a '
        f'minute. {_AT_LOADING}',
    )
    threads: int = parameter(
        0,
        'CPU threads of the detector. 0: one per core. All processes on a machine together should '
        'not have more threads than it has cores, otherwise they become many times slower. Takes '
        'effect when the detector is configured.',
        limits=(0, 256),
    )
    cameras: tuple[str, ...] = parameter(
        ('camera',),
        'Names of the cameras. Camera `front` subscribes to `front/image`, publishes `front/mask`, '
        '`front/score_map`, `front/overlay`, `front/defects` and `front/verdict`, and has '
        'parameters of its own, such as `front.model`. Frames of cameras with the same model file '
        'are inspected as one batch.',
        read_only=True,
    )
    autostart: bool = parameter(
        False,
        'Configure and activate at start. Set to false where a lifecycle manager does that.',
        read_only=True,
        example=True,
    )
    await_models: bool = parameter(
        False,
        'Inspect with the other cameras while a model file does not exist or cannot be loaded, as '
        'in a cell with a camera that is not trained yet. False: configuring fails.',
    )
    lazy: bool = parameter(True, 'Inspect a camera only while one of its results has a subscriber.')
