# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A small backbone, its images, and how its errors are read."""

from flow_anomaly_ros.layers.backbone import Backbone, BackboneError
import pytest
import torch
import torchvision

SMALL = 'squeezenet1_1'


@pytest.fixture(scope='session')
def random_network():
    """Return a function that builds a torchvision network with seeded random weights."""

    def build(seed=0, name=SMALL):
        torch.manual_seed(seed)
        return torchvision.models.get_model(name, weights=None).eval()

    return build


@pytest.fixture(scope='module')
def backbone():
    torch.manual_seed(0)
    return Backbone(SMALL)


@pytest.fixture(scope='module')
def resnet():
    torch.manual_seed(0)
    return Backbone('resnet18', ('layer1',), stride=4)


@pytest.fixture
def images():
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def error_line():
    """Return a function that calls another one and gives the one-line error it raises."""

    def call_and_read(call, *arguments):
        with pytest.raises(BackboneError) as caught:
            call(*arguments)
        message = str(caught.value)
        assert '\n' not in message
        return message

    return call_and_read
