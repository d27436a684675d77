# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""NF-BMR: mapping between pretrained features and the latents of a normalizing flow."""

from flow_anomaly_ros.detectors.method import Method
from flow_anomaly_ros.detectors.nf_bmr.config import NfBmrConfig
from flow_anomaly_ros.detectors.nf_bmr.model import NfBmrDetector
from flow_anomaly_ros.detectors.nf_bmr.training import fit

METHOD = Method(
    name='nf_bmr',
    summary='bidirectional mapping between pretrained features and the latents of a flow',
    source='NF-BMR, 2024',
    config=NfBmrConfig,
    detector=NfBmrDetector,
    fit=fit,
    presets={
        'fast': {'flow_steps': 300, 'mapping_steps': 1000},
        # Section 4.2; wants a GPU.
        'paper': {
            'batch': 8,
            'flow_hidden': 1024,
            'hidden': 1024,
            'flow_steps': 3000,
            'flow_learning_rate': 2e-4,
            'mapping_learning_rate': 3e-4,
        },
    },
    renamed_options={'copies': 'augmented_samples'},
    renamed_tensors={r'^usual$': 'mean_error'},
)
