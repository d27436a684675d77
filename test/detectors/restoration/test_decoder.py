# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The decoder makes images of any size; each feature changes the image around its position."""

from flow_anomaly_ros.detectors.restoration.decoder import Decoder
import pytest
import torch


@pytest.mark.parametrize('stride', [2, 8, 32])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [(64, 32), (37, 51), (33, 63)])
def test_images_have_the_requested_size(size, channels, stride):
    features = torch.randn(2, 4, *(-(-side // stride) for side in size))
    images = Decoder(4, channels, stride, hidden=16)(features, size)
    assert tuple(images.shape) == (2, channels, *size)
    assert images.isfinite().all()


def test_a_feature_changes_the_image_only_around_its_position():
    torch.manual_seed(0)
    decoder = Decoder(4, 3, stride=4, hidden=16)
    features = torch.randn(1, 4, 12, 12)
    changed = features.clone()
    changed[:, :, 1, 10] += 1
    difference = (decoder(features, (48, 48)) - decoder(changed, (48, 48))).abs().amax((0, 1))
    assert difference[4:8, 40:44].min() > 0
    assert not difference[24:].any()
    assert not difference[:, :24].any()
