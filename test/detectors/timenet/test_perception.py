# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The perception network guides the one-step restoration; only it is trained."""

from flow_anomaly_ros.detectors.timenet.perception import one_step, TimestepPerception
from flow_anomaly_ros.detectors.timenet.rectified_flow import euler
from flow_anomaly_ros.detectors.timenet.unet import UNet, UNetSize
import pytest
import torch

SIZE = UNetSize(base=8, multipliers=(1, 2), attention=1, blocks=1)
TIME = 0.83


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    network = UNet(1, 1, SIZE, timed=True, classes=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.requires_grad_(requires_grad=False)


@pytest.fixture
def images():
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


TIMES, CLASSES = torch.full((2,), TIME), torch.tensor([0, 1])


def test_without_perception_one_step_is_a_step_of_euler(denoiser, images):
    expected = euler(lambda x, t: denoiser(x, t, CLASSES).image, images, TIME)
    restored, times = one_step(denoiser, None, images, TIMES, CLASSES)
    torch.testing.assert_close(restored, expected)
    assert times.flatten().tolist() == TIMES.tolist()


@torch.no_grad()
def test_before_training_the_perceived_time_is_that_of_the_noise(denoiser, images):
    perception = TimestepPerception(1, SIZE, 2, SIZE, TIME)
    times, features = perception(images, CLASSES)
    torch.testing.assert_close(times, torch.full((2, 1, 8, 8), TIME))
    assert not any(x.any() for x in features)
    torch.testing.assert_close(
        one_step(denoiser, perception, images, TIMES, CLASSES)[0],
        one_step(denoiser, None, images, TIMES, CLASSES)[0],
    )


def test_gradients_reach_only_the_perception_network(denoiser, images):
    perception = TimestepPerception(1, SIZE, 2, SIZE, TIME)
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    optimiser = torch.optim.Adam(perception.parameters(), 1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        one_step(denoiser, perception, images, TIMES, CLASSES)[0].square().mean().backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.any() for p in perception.adapters.parameters())
    assert all(p.grad is None for p in denoiser.parameters())
    assert all(torch.equal(value, before[name]) for name, value in denoiser.state_dict().items())


def test_training_the_perception_network_improves_the_restoration(denoiser, images):
    perception = TimestepPerception(1, SIZE, 2, SIZE, TIME)
    target = torch.zeros_like(images)
    optimiser = torch.optim.Adam(perception.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (one_step(denoiser, perception, images, TIMES, CLASSES)[0] - target).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]


@torch.no_grad()
def test_a_small_perception_network_fits_a_larger_denoiser(denoiser, images):
    small = UNetSize(base=4, multipliers=(1, 1), attention=0, blocks=1)
    perception = TimestepPerception(1, small, 2, SIZE, TIME)
    assert one_step(denoiser, perception, images, TIMES, CLASSES)[0].shape == images.shape


def test_another_number_of_levels_is_refused():
    deep = UNetSize(base=4, multipliers=(1, 1, 1), attention=0, blocks=1)
    with pytest.raises(ValueError, match='2 levels cannot take features of 3 levels'):
        TimestepPerception(1, deep, 2, SIZE, TIME)
