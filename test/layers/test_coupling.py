# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The flow is exactly invertible, its log-determinants are exact, and scales are fused."""

from flow_anomaly_ros.layers.coupling import CLAMP, Coupling, CouplingFlow
from flow_anomaly_ros.layers.fusion import FusionNetworks
import pytest
import torch

SIZES = ((9, 7), (5, 3), (2, 2), (1, 1))
CHANNELS = 6


def randomise(module):
    """Undo the zero-init, with which a flow only permutes channels."""
    for part in module.modules():
        if isinstance(part, FusionNetworks):
            for network in part.networks:
                torch.nn.init.normal_(network[-1].weight, std=0.2)
                torch.nn.init.normal_(network[-1].bias, std=0.2)
    return module


def fused(scales):
    """Return a factory of coupling networks that fuse adjacent scales."""
    return lambda inputs, outputs: FusionNetworks(scales, inputs, 8, outputs)


def random_maps(sizes, batch=2, channels=CHANNELS):
    return [torch.randn(batch, channels, *size) for size in sizes]


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('scales', range(1, 5))
def test_inverse_is_exact_in_both_directions(scales, seed):
    torch.manual_seed(seed)
    flow = randomise(CouplingFlow(CHANNELS, 4, fused(scales)))
    maps = random_maps(SIZES[:scales])
    with torch.no_grad():
        latents, _ = flow(maps)
        restored = flow.inverse(latents)
        again, _ = flow(flow.inverse(maps))
    for before, latent, after, forwarded in zip(maps, latents, restored, again, strict=True):
        assert latent.shape == before.shape
        assert (latent - before).abs().mean() > 0.1
        torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
        torch.testing.assert_close(forwarded, before, atol=1e-4, rtol=0)


@pytest.mark.parametrize('sizes', [((2, 3),), ((3, 2), (1, 2)), ((2, 2), (1, 2), (1, 1))])
def test_log_determinant_is_that_of_the_joint_jacobian(sizes):
    torch.manual_seed(1)
    flow = randomise(CouplingFlow(4, 2, fused(len(sizes)))).double()
    maps = [x.double() for x in random_maps(sizes, batch=1, channels=4)]
    lengths = [x.numel() for x in maps]

    def joint(vector):
        parts = vector.split(lengths)
        latents, _ = flow([part.view_as(x) for part, x in zip(parts, maps, strict=True)])
        return torch.cat([z.flatten() for z in latents])

    point = torch.cat([x.flatten() for x in maps])
    expected = torch.linalg.slogdet(torch.autograd.functional.jacobian(joint, point)).logabsdet
    _, log_determinants = flow(maps)
    total = sum(d.sum() for d in log_determinants)
    assert abs(expected) > 0.1
    torch.testing.assert_close(total, expected)


def test_log_determinants_have_one_value_per_position():
    flow = randomise(CouplingFlow(CHANNELS, 2, fused(3)))
    _, log_determinants = flow(random_maps(SIZES[:3], batch=2))
    assert [tuple(d.shape) for d in log_determinants] == [(2, *size) for size in SIZES[:3]]


@pytest.mark.parametrize('seed', range(3))
def test_a_new_flow_only_permutes_channels(seed):
    torch.manual_seed(seed)
    flow = CouplingFlow(CHANNELS, 3, fused(2))
    maps = random_maps(SIZES[:2])
    latents, log_determinants = flow(maps)
    for before, after, log_determinant in zip(maps, latents, log_determinants, strict=True):
        torch.testing.assert_close(after.sort(dim=1).values, before.sort(dim=1).values)
        assert not log_determinant.any()


@pytest.mark.parametrize('changed', range(4))
def test_a_change_of_one_scale_reaches_only_the_adjacent_scales(changed):
    torch.manual_seed(0)
    networks = randomise(FusionNetworks(4, CHANNELS, 8, CHANNELS))
    maps = random_maps(SIZES)
    before = networks(maps)
    maps[changed] = maps[changed] + 1
    after = networks(maps)
    differs = [not torch.equal(x, y) for x, y in zip(before, after, strict=True)]
    assert differs == [abs(index - changed) <= 1 for index in range(4)]


@pytest.mark.parametrize(('changed', 'other'), [(0, 1), (1, 0)])
def test_a_coupling_passes_information_to_larger_and_smaller_scales(changed, other):
    torch.manual_seed(0)
    coupling = randomise(Coupling(CHANNELS, fused(2)))
    maps = random_maps(SIZES[:2])
    before, _ = coupling(maps)
    maps[changed] = maps[changed] + 1
    after, _ = coupling(maps)
    assert (before[other] - after[other]).abs().mean() > 0.01


def test_log_determinants_of_a_coupling_are_bounded_for_any_input():
    torch.manual_seed(0)
    coupling = randomise(Coupling(CHANNELS, fused(2)))
    _, log_determinants = coupling([1e6 * x for x in random_maps(SIZES[:2])])
    for log_determinant in log_determinants:
        assert log_determinant.abs().max() <= CLAMP * CHANNELS * (1 + 1e-5)


def test_an_odd_number_of_channels_is_refused():
    with pytest.raises(ValueError, match='5 is odd'):
        CouplingFlow(5, 1, fused(2))
