# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""CAINNFlow: a coupling flow with block attention on pretrained features."""

from flow_anomaly_ros.detectors.cainnflow.config import CainnFlowConfig
from flow_anomaly_ros.detectors.cainnflow.model import CainnFlowDetector
from flow_anomaly_ros.detectors.cainnflow.training import fit
from flow_anomaly_ros.detectors.method import Method

METHOD = Method(
    name='cainnflow',
    summary='coupling flows with block attention on pretrained features',
    source='CAINNFlow, 2022',
    config=CainnFlowConfig,
    detector=CainnFlowDetector,
    fit=fit,
    presets={'fast': {'steps': 200}},
    renamed_options={'copies': 'augmented_samples'},
)
