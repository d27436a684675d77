#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Serve anomalib's models to `speed.py`, in PyTorch and exported.

Runs in an environment of its own, with anomalib 2.7.0, onnxruntime and openvino, and without this
package. How long a model takes does not depend on what it has learned, so that none is trained;
PatchCore gets a memory bank of random features.
"""

import argparse
from collections.abc import Callable
import os
from pathlib import Path
import tempfile

from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
import numpy as np
from on_backends import on_backends
from peers import FLOW_LEVELS, FlowOnBackbone, LEVELS, RANDOM_PATCHES
from safetensors.torch import load_file
from timing_worker import serve
import torch
from torch import nn
import torchvision

# By the names of backbones: levels of PatchCore and PaDiM, levels of FastFlow, their channels.
BACKBONES = {
    'mobilenet_v2': (LEVELS, FLOW_LEVELS, 56),
    'resnet18': (
        ['layer1', 'layer2'],
        {'layer1': (64, 4), 'layer2': (128, 8), 'layer3': (256, 16)},
        192,
    ),
}


def main() -> None:
    """Build the models, export them, serve them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--backbone', choices=BACKBONES, required=True)
    parser.add_argument('--weights', type=Path, required=True)
    parser.add_argument('--images', type=Path, required=True, help='.npy, Bx3xHxW float32, scaled')
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--models', nargs='+', required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = torch.from_numpy(np.load(arguments.images))
    functions: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            model = _build(name, arguments.backbone, arguments.weights, images).eval()
            functions |= {
                f'{name}, {backend}': function
                for backend, function in on_backends(model, images, Path(folder), arguments.threads)
            }
        serve(functions)


def _build(name: str, backbone: str, weights: Path, images: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    network = getattr(torchvision.models, backbone)()
    network.load_state_dict(load_file(weights))
    levels, flow_levels, channels = BACKBONES[backbone]
    if name == 'fastflow':
        return FlowOnBackbone(network.eval(), images.shape[-1], flow_levels)
    if name == 'efficientad':
        # It has networks of its own.
        model = EfficientAdModel()
        for maps in (model.quantiles, model.mean_std):
            for value in maps.values():
                value.data = torch.rand_like(value) + 0.5
        return model
    if name == 'padim':
        model = PadimModel(network.eval(), levels, n_features=channels)
        model.train()
        model(images.expand(8, -1, -1, -1) + 0.1 * torch.randn(8, *images.shape[1:]))
        model.fit()
        return model
    model = PatchcoreModel(levels, network.eval())
    model.memory_bank = torch.randn(RANDOM_PATCHES, channels)
    return model


if __name__ == '__main__':
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')
    main()
