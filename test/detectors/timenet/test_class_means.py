# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Images are classified by the nearest class mean of their features."""

from flow_anomaly_ros.detectors.timenet.class_means import ClassMeans
import pytest
import torch


def levels(count, means, spread=0.1, seed=0):
    """Draw two levels of features of a class, with 2 and 1 channels."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn(count, 2, 4, 4, generator=generator)
    coarse = torch.randn(count, 1, 2, 2, generator=generator)
    first, second, third = means
    return [torch.tensor([first, second])[:, None, None] + spread * fine, third + spread * coarse]


MEANS = [(0.0, 1.0, 2.0), (0.0, 1.0, 3.0), (5.0, 1.0, 2.0)]


@pytest.fixture
def class_means():
    means = ClassMeans(3, 3)
    descriptors = torch.cat([means.describe(levels(10, mean, seed=1)) for mean in MEANS])
    means.fit(descriptors, torch.arange(3).repeat_interleave(10))
    return means


@pytest.mark.parametrize('index', range(3))
def test_each_class_is_distinguished_from_the_others(class_means, index):
    assert class_means(levels(6, MEANS[index], seed=2)).tolist() == [index] * 6


def test_channels_that_vary_within_a_class_count_less():
    means = ClassMeans(2, 2)
    descriptors = torch.tensor([[-10.0, 0.0], [10.0, 0.0], [-9.0, 1.0], [11.0, 1.0]])
    means.fit(descriptors, torch.tensor([0, 0, 1, 1]))
    assert means([torch.tensor([12.0, 0.1]).view(1, 2, 1, 1)]).tolist() == [0]
    assert means([torch.tensor([-12.0, 0.9]).view(1, 2, 1, 1)]).tolist() == [1]


def test_one_image_per_class_is_enough():
    means = ClassMeans(2, 1)
    means.fit(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
    assert means([torch.full((1, 1, 2, 2), 1.8)]).tolist() == [1]
