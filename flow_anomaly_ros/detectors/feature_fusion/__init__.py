# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Multi-level feature fusion: texture and meaning fused, trained with synthetic anomalies."""

from flow_anomaly_ros.detectors.feature_fusion.config import FeatureFusionConfig
from flow_anomaly_ros.detectors.feature_fusion.model import FeatureFusionDetector
from flow_anomaly_ros.detectors.feature_fusion.training import fit
from flow_anomaly_ros.detectors.method import Method

METHOD = Method(
    name='feature_fusion',
    summary='fused levels of pretrained features, trained with synthetic anomalies',
    source='multi-level feature fusion (in Chinese)',
    config=FeatureFusionConfig,
    detector=FeatureFusionDetector,
    fit=fit,
    presets={'fast': {'steps': 300}},
    renamed_options={'copies': 'augmented_samples'},
)
