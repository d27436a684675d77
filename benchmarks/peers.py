#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Train and run one of anomalib's models on given images, for `accuracy.py`.

Runs in an environment of its own, with anomalib 2.7.0 and without this package. The backbone is
torchvision's mobilenet_v2 with the weights of a file, for every model.
"""

import argparse
import time

from anomalib.models.image.fastflow.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import create_fast_flow_block, FastflowModel
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
import numpy as np
from safetensors.torch import load_file
import torch
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.models.feature_extraction import create_feature_extractor

LEVELS = ['features.3', 'features.6']
# Strides 4, 8 and 16, as FastFlow takes from its own backbones.
FLOW_LEVELS = {'features.3': (24, 4), 'features.6': (32, 8), 'features.13': (96, 16)}
# anomalib's coreset takes hours where there are more patches than this.
CORESET_PATCHES = 50_000
RANDOM_PATCHES = 12_000
BATCH = 8
FLOW_STEPS = 400
FLOW_BATCH = 32


class FlowOnBackbone(FastflowModel):
    """anomalib's FastFlow, whose constructor knows two backbones only, on another one."""

    def __init__(self, backbone: nn.Module, size: int, levels: dict = FLOW_LEVELS) -> None:
        nn.Module.__init__(self)
        self.input_size = (size, size)
        self.feature_extractor = create_feature_extractor(backbone, list(levels))
        self.feature_extractor.requires_grad_(requires_grad=False)
        shapes = [[c, size // stride, size // stride] for c, stride in levels.values()]
        self.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
        self.fast_flow_blocks = nn.ModuleList(
            create_fast_flow_block(shape, conv3x3_only=False, hidden_ratio=1.0, flow_steps=8)
            for shape in shapes
        )
        self.anomaly_map_generator = AnomalyMapGenerator(input_size=self.input_size)

    def extract(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Frozen features, which training computes once."""
        return list(self.feature_extractor(images).values())

    def _get_cnn_features(self, images):
        features = images if isinstance(images, list) else self.extract(images)
        return [norm(feature) for norm, feature in zip(self.norms, features, strict=True)]


def fit_patchcore(backbone: nn.Module, images: torch.Tensor) -> tuple:
    """Memory bank of all patches, by the coreset, or of random ones where there are too many."""
    model = PatchcoreModel(LEVELS, backbone)
    model.train()
    model.feature_extractor.eval()
    for batch in images.split(BATCH):
        model(batch)
    patches = torch.vstack(model.embedding_store)
    if len(patches) <= CORESET_PATCHES:
        model.subsample_embedding(0.1)
        return model, f'coreset of {len(model.memory_bank)} patches'
    model.embedding_store.clear()
    model.memory_bank = patches[torch.randperm(len(patches))[:RANDOM_PATCHES]]
    return model, f'{RANDOM_PATCHES} random patches'


def fit_padim(backbone: nn.Module, images: torch.Tensor) -> tuple:
    """A Gaussian per position over all channels of both levels."""
    model = PadimModel(backbone, LEVELS, n_features=56)
    model.train()
    for batch in images.split(BATCH):
        model(batch)
    model.fit()
    return model, 'all 56 channels'


def fit_fastflow(backbone: nn.Module, images: torch.Tensor) -> tuple:
    """The loss and optimiser of anomalib, a fixed number of steps, the last one."""
    model = FlowOnBackbone(backbone, images.shape[-1])
    with torch.no_grad():
        parts = [model.extract(batch) for batch in images.split(BATCH)]
    features = [torch.cat(level) for level in zip(*parts, strict=True)]
    loss_of = FastflowLoss()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-5)
    model.train()
    steps = 0
    while steps < FLOW_STEPS:
        for chosen in torch.randperm(len(images)).split(FLOW_BATCH)[: FLOW_STEPS - steps]:
            loss = loss_of(*model([level[chosen] for level in features]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps += 1
    return model, f'{steps} steps of {min(FLOW_BATCH, len(images))}'


FITS = {'patchcore': fit_patchcore, 'padim': fit_padim, 'fastflow': fit_fastflow}


def main() -> None:
    """Read images, write score maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('method', choices=FITS)
    parser.add_argument('images', help='.npz with `train` and `test`, Nx3xHxW float16 in [0, 1]')
    parser.add_argument('result', help='.npz that is written')
    parser.add_argument('--weights', required=True)
    parser.add_argument('--seed', type=int, required=True)
    parser.add_argument('--threads', type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    backbone = mobilenet_v2()
    backbone.load_state_dict(load_file(arguments.weights))
    data = np.load(arguments.images)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    train, test = ((torch.from_numpy(data[key]).float() - mean) / std for key in ('train', 'test'))
    started = time.perf_counter()
    model, note = FITS[arguments.method](backbone.eval(), train)
    seconds = time.perf_counter() - started
    model.eval()
    started = time.perf_counter()
    with torch.inference_mode():
        outputs = [model(image[None]) for image in test]
    milliseconds = 1e3 * (time.perf_counter() - started) / len(test)
    np.savez(
        arguments.result,
        score_maps=torch.cat([o.anomaly_map.reshape(1, *test.shape[-2:]) for o in outputs]).numpy(),
        image_scores=torch.cat([o.pred_score.reshape(1) for o in outputs]).numpy(),
        seconds=seconds,
        milliseconds=milliseconds,
        note=note,
    )


if __name__ == '__main__':
    main()
