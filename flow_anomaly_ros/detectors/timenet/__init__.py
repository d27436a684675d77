# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""TimeNet: one model for many parts, which restores each in one step of a rectified flow."""

from flow_anomaly_ros.detectors.method import Method
from flow_anomaly_ros.detectors.timenet.config import TimeNetConfig
from flow_anomaly_ros.detectors.timenet.model import TimeNetDetector
from flow_anomaly_ros.detectors.timenet.training import fit

METHOD = Method(
    name='timenet',
    summary='one model for several classes of parts, restored in one step of a rectified flow',
    source='TimeNet, 2025 (in Chinese)',
    config=TimeNetConfig,
    detector=TimeNetDetector,
    fit=fit,
    presets={
        'fast': {
            'base': 16,
            'flow_steps': 1000,
            'reflow_steps': 300,
            'perception_steps': 600,
            'pairs': 64,
        },
        # Section 3.1.3; wants a GPU.
        'paper': {
            'backbone': 'wide_resnet101_2',
            'space': 'pixel',
            'base': 64,
            'multipliers': (1, 1, 2, 2, 4, 4),
            'attention': 2,
            'blocks': 2,
            'pairs': 4000,
            'tolerance': 1e-5,
            'max_shift': 0,
            'flow_steps': 100000,
            'reflow_steps': 50000,
            'perception_steps': 50000,
            'learning_rate': 2e-4,
        },
    },
    renamed_options={'copies': 'augmented_samples'},
)
