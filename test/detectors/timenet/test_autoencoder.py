# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Latents are decoded to their images and have unit variance."""

from flow_anomaly_ros.detectors.timenet.autoencoder import Autoencoder, PixelSpace
import torch


def images(count=6):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 48), mode='bilinear')
    return smooth + 0.02 * torch.randn(smooth.shape, generator=generator)


def fitted(latents, block=4):
    autoencoder = Autoencoder(3, block, latents)
    autoencoder.fit(images())
    return autoencoder


def test_pixels_are_scaled_to_minus_one_to_one_and_back():
    space = PixelSpace(3)
    latents = space.encode(images())
    assert latents.min() < -0.5 < 0.5 < latents.max()
    torch.testing.assert_close(space.decode(latents), images())
    assert (space.channels, space.stride) == (3, 1)


def test_latents_have_the_stated_stride_and_channels():
    autoencoder = fitted(6)
    assert (autoencoder.channels, autoencoder.stride) == (6, 4)
    assert tuple(autoencoder.encode(images(2)).shape) == (2, 6, 8, 12)


def test_latents_have_zero_mean_and_unit_variance():
    latents = fitted(6).encode(images())
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(6), atol=1e-3, rtol=0)


def test_all_components_reconstruct_images_exactly():
    autoencoder = fitted(1000)
    assert autoencoder.channels == 48
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(images())), images())


def test_more_components_give_a_smaller_error():
    errors = []
    for latents in (1, 4, 16):
        autoencoder = fitted(latents)
        decoded = autoencoder.decode(autoencoder.encode(images()))
        errors.append((decoded - images()).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    # The remaining error is the noise.
    assert errors[-1] < 2 * 0.02**2


def test_constant_images_give_finite_latents():
    autoencoder = Autoencoder(3, 4, 8)
    autoencoder.fit(torch.full((2, 3, 16, 16), 0.5))
    assert autoencoder.encode(images()).isfinite().all()
