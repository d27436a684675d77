# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Rows of the ablation tables of the methods' sources, options by name; the default comes first."""

# Options by the names of rows.
_Rows = dict[str, dict[str, object]]

_FUSION_PARTS: dict[str, object] = {
    'self_calibration': False,
    'texture': False,
    'score_loss': False,
    'consistency_loss': False,
}
_FUSION_RATIOS = (0.0, 0.05, 0.25, 0.75, 1.0)
_STEPS = (1, 3, 5, 10)
# Strides of the levels f1 to f5.
_LEVELS = {'f1-f4': (2, 4, 8, 16), 'f2-f5': (4, 8, 16, 32), 'f2-f3': (4, 8), 'f3-f4': (8, 16)}
_TIMES = (0.6, 0.7, 0.8, 0.9, 0.95)
# No source's: what whole numbers cost.
_INT8: _Rows = {'int8': {'int8': True}}

ABLATIONS: dict[str, _Rows] = {
    'restoration': {
        'default': {},
        # What decides: the memory bank, or the flow that restores.
        'memory_alone': {'reference_images': ['memory_bank']},
        'flow_alone': {'reference_images': ['restored']},
        'without_time': {'time_weight': 0.0},
        'sum': {'combination': 'sum'},
        # The flow that is trained towards a target distribution, and none in its place.
        'nearest': {'reference_images': ['memory_bank', 'nearest']},
        'nearest_alone': {'reference_images': ['nearest']},
        'identity_alone': {'blocks': 0, 'reference_images': ['nearest']},
        'area': {'scale_weighting': 'area'},
        **_INT8,
    },
    # Table 2.
    'cainnflow': {**{form: {'form': form} for form in ('CAC', 'CC', 'CA', 'AC')}, **_INT8},
    # Table 5.
    'nf_bmr': {
        'n2': {},
        'flow_alone': {'mapping': 'none'},
        'B_PFM': {'mapping': 'plain'},
        'n1': {'residual_blocks': 1},
        'n3': {'residual_blocks': 3},
        **_INT8,
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
        **_INT8,
    },
    'timenet': {
        'perception': {},
        # Table 3.
        **{f'reflow_{steps}': {'perception': False, 'steps': steps} for steps in _STEPS},
        **{
            f'flow_{steps}': {'perception': False, 'reflows': 0, 'steps': steps} for steps in _STEPS
        },
        # Table 4; needs the weights of both in a folder.
        'squeezenet1_1': {'backbone': 'squeezenet1_1'},
        # Table 5.
        **{name: {'strides': strides} for name, strides in _LEVELS.items()},
        # Figure 7.
        **{f'time_{time}': {'time': time} for time in _TIMES},
        # Equation 5.
        'without_pixels': {'pixel_weight': 0.0},
        'cosine_alone': {'pixel_weight': 0.0, 'level_weights': (0.0,)},
        **_INT8,
    },
}
