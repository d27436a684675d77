# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Rows of the ablation tables of the methods' sources, options by name; the default comes first."""

_FUSION_PARTS = {
    'self_calibration': False,
    'texture': False,
    'score_loss': False,
    'consistency_loss': False,
}
_FUSION_RATIOS = (0.0, 0.05, 0.25, 0.75, 1.0)

ABLATIONS: dict[str, dict[str, dict[str, object]]] = {
    # Table 2.
    'cainnflow': {form: {'form': form} for form in ('CAC', 'CC', 'CA', 'AC')},
    # Table 5.
    'nf_bmr': {
        'n2': {},
        'flow_alone': {'mapping': 'none'},
        'B_PFM': {'mapping': 'plain'},
        'n1': {'residual_blocks': 1},
        'n3': {'residual_blocks': 3},
    },
    'feature_fusion': {
        # Table 4 from its last row up: each has one part less than the one before.
        'and_consistency': {},
        'and_score_loss': {'consistency_loss': False},
        'and_texture': {'score_loss': False, 'consistency_loss': False},
        'and_calibration': {**_FUSION_PARTS, 'self_calibration': True},
        'baseline': _FUSION_PARTS,
        # Table 3.
        **{f'ratio_{ratio}': {'anomaly_ratio': ratio} for ratio in _FUSION_RATIOS},
    },
}
