# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Multi-scale restoration with a flow model, after US 2025/0265693 A1."""

import dataclasses

from flow_anomaly_ros.detectors.method import Method
from flow_anomaly_ros.detectors.restoration.config import PIXELS, RestorationConfig
from flow_anomaly_ros.detectors.restoration.model import RestorationDetector
from flow_anomaly_ros.detectors.restoration.training import fit


def _scoring_config(config: RestorationConfig) -> RestorationConfig:
    """Leave the decoder out where it only draws pictures."""
    return config if config.compares_decoded else dataclasses.replace(config, decoder_steps=0)


METHOD = Method(
    name='restoration',
    summary='multi-scale restoration with a flow model; needs ten good images or fewer',
    source='US 2025/0265693 A1',
    config=RestorationConfig,
    detector=RestorationDetector,
    fit=fit,
    presets={
        # One scale has the receptive field of two with a level more.
        'fast': {
            'scales': (1.0,),
            'strides': (4, 8, 16),
            'memory_bank_size': 100,
            'flow_steps': 50,
            'restoring_steps': 150,
        }
    },
    scoring_config=_scoring_config,
    takes_weights=lambda config: PIXELS not in config.backbone,
    # Of five sets of generated parts it is 0.04 to 0.08, with a longer tail than that of a normal
    # distribution. With 0.08, thresholds for 1 and 10 % are exceeded by 2.4 and 10.6 % there.
    score_spread=0.08,
    can_leave_out=lambda config: config.can_leave_out,
    renamed_options={
        'second_images': 'reference_images',
        'second_weights': 'reference_weights',
        'stored': 'memory_bank_size',
        'coreset': 'coreset_size',
        'copies': 'augmented_samples',
        'mark': 'occlusion_pattern',
        'most_scales': 'max_scales',
        'relative': 'normalize_distances',
        'normalised': 'normalize_maps',
    },
    renamed_values={'reference_images': {'stored': 'memory_bank'}},
    former_defaults={
        6: {'strides': [4, 8, 16]},
        9: {'combination': 'sum'},
        10: {'scale_weighting': 'area'},
    },
    renamed_tensors={
        r'^stored\.(\d+)\.stored$': r'memory_banks.\1.bank',
        r'^targets\.': 'latent_gaussians.',
        r'^usual\.': 'distance_normalizers.',
    },
)
