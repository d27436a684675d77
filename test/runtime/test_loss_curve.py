# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The loss curve is one readable picture, whole or not there."""

from flow_anomaly_ros.data.images import read_image
from flow_anomaly_ros.detectors.base import FitReport
from flow_anomaly_ros.runtime.loss_curve import save_loss_curve
import numpy as np
import pytest


def test_a_panel_for_every_stage(tmp_path):
    one, two = tmp_path / 'one.png', tmp_path / 'two.png'
    save_loss_curve(one, FitReport({'flow': [3.0, 2.0, 1.5]}))
    save_loss_curve(two, FitReport({'flow': [3.0, 2.0, 1.5], 'decoder': [0.5]}))
    single, double = read_image(one), read_image(two)
    assert double.shape[0] == 2 * single.shape[0]
    assert double.shape[1] == single.shape[1] > 500
    assert len(np.unique(single)) > 10
    assert sorted(tmp_path.iterdir()) == [one, two]


def test_a_report_without_losses_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no losses'):
        save_loss_curve(tmp_path / 'loss.png', FitReport())
    assert not list(tmp_path.iterdir())
