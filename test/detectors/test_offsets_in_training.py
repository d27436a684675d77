# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Every method that draws maps of a network's levels measures where these lie."""

from flow_anomaly_ros.detectors.registry import METHODS
from flow_anomaly_ros.layers.backbone import Backbone
import pytest
import torch

SMALL = 'squeezenet1_1'
SHORT = {
    'restoration': {'restoring_pairs': 2, 'restoring_steps': 1, 'decoder_steps': 0},
    'cainnflow': {'steps': 1},
    'nf_bmr': {'flow_steps': 1, 'mapping_steps': 1, 'components': 8},
}


@pytest.mark.parametrize('name', SHORT)
def test_a_training_measures_the_offsets(name):
    torch.manual_seed(0)
    method = METHODS[name]
    options = {'backbone': SMALL, 'augmented_samples': 2} | SHORT[name]
    if name == 'restoration':
        options['backbone'] = (SMALL,)
    detector = method.detector(method.config(**options))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    method.fit(detector, images)
    backbones = [module for module in detector.modules() if isinstance(module, Backbone)]
    assert len(backbones) == 1
    assert all(offset != (0.0, 0.0) for offset in backbones[0].level_offsets)
    before = detector(images).score_map
    backbones[0].level_offsets = [(8.0, 8.0) for _ in backbones[0].level_offsets]
    assert not torch.equal(detector(images).score_map, before)
