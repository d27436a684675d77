# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The U-Net has the published size, keeps shapes and depends on all its conditions."""

from flow_anomaly_ros.detectors.timenet.unet import group_norm, UNet, UNetSize
import pytest
import torch

SMALL = UNetSize(base=8, multipliers=(1, 2), attention=1, blocks=1)


def randomised(network):
    """Replace all parameters, since zero-init makes the output 0."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def test_the_published_size_has_about_30_million_parameters():
    with torch.device('meta'):
        size = UNetSize(base=64, multipliers=(1, 1, 2, 2, 4, 4), attention=2, blocks=2)
        network = UNet(3, 3, size, timed=True, classes=15)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert 25e6 < count < 35e6
    assert size.divisor == 32


@pytest.mark.parametrize('attention', [0, 1, 2])
def test_the_output_has_the_shape_of_the_image(attention):
    size = UNetSize(base=8, multipliers=(1, 2, 3), attention=attention, blocks=2)
    output = UNet(1, 2, size)(torch.zeros(2, 1, 16, 24))
    assert output.image.shape == (2, 2, 16, 24)
    assert [tuple(x.shape) for x in output.features] == [
        (2, 8, 16, 24),
        (2, 16, 8, 12),
        (2, 24, 4, 6),
    ]


def test_the_output_is_zero_before_training():
    assert not UNet(1, 1, SMALL)(torch.randn(1, 1, 8, 8)).image.any()


@torch.no_grad()
def test_time_class_and_injected_features_change_the_output():
    torch.manual_seed(0)
    network = randomised(UNet(1, 1, SMALL, timed=True, classes=3))
    images = torch.randn(1, 1, 8, 8)
    features = [torch.zeros(1, 8, 8, 8), torch.zeros(1, 16, 4, 4)]

    def output(time=0.5, index=0, injected=None):
        return network(images, torch.tensor([time]), torch.tensor([index]), injected).image

    torch.testing.assert_close(output(injected=features), output())
    for changed in (
        output(time=0.6),
        output(index=1),
        output(injected=[torch.randn_like(features[0]), features[1]]),
        output(injected=[features[0], torch.randn_like(features[1])]),
    ):
        assert (changed - output()).abs().max() > 1e-3


@torch.no_grad()
def test_images_of_a_batch_do_not_influence_each_other():
    torch.manual_seed(0)
    network = randomised(UNet(1, 1, SMALL, timed=True, classes=3))
    images, times, classes = torch.randn(3, 1, 8, 8), torch.rand(3), torch.tensor([0, 2, 1])
    batched = network(images, times, classes).image
    for index in range(3):
        item = slice(index, index + 1)
        single = network(images[item], times[item], classes[item]).image
        torch.testing.assert_close(batched[item], single, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('base', [2, 3, 6, 17, 18, 64])
def test_group_norm_accepts_any_number_of_channels(base):
    for factor in (1, 2, 4):
        channels = factor * base
        assert group_norm(channels)(torch.rand(1, channels, 2, 2)).isfinite().all()
