# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One model of all data sets, and the rows of its ablation, which share what they can of it."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path

from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.detectors.registry import build_config, find_method
from flow_anomaly_ros.detectors.timenet.model import TimeNetDetector
from flow_anomaly_ros.detectors.timenet.training import fit_comparison
from flow_anomaly_ros.runtime.artifact import load_artifact, save_artifact
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.preprocess import to_tensor
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import torch

# Good images of each class that rows of an ablation learn from how good parts differ.
COMPARED = 30
CPU = torch.device('cpu')


def joint_engine(
    output: Path,
    method: str,
    data: Sequence[Path],
    max_images: int | None,
    seed: int,
    options: dict[str, object],
    weights: Path,
    size: int,
) -> Engine:
    """Train one model of all sets, or go on where that was interrupted, or load it.

    Args:
        output: Folder for the model and its checkpoints, which stay.
        method: A method that learns several classes.
        data: Data folders, whose names are those of the classes.
        max_images: Good images of each class; None: all.
        seed: Of all random numbers.
        options: Of the method.
        weights: Of the backbone.
        size: Shorter side of the images in px.
    """
    path = _model(output, method, max_images, seed)
    if not path.exists():
        by_class = {
            folder.name: load_good_images(read_folder(folder), max_images, seed).images
            for folder in data
        }
        training = train(
            TrainingRequest(
                method=method,
                options=options,
                weights=weights,
                seed=seed,
                image_size=size,
                device='cpu',
                checkpoints=path.with_suffix('.checkpoints'),
            ),
            TrainingDataset(
                [image for images in by_class.values() for image in images],
                tuple([name for name, images in by_class.items() for _ in images]),
            ),
            _tell,
        )
        print(*training.report.notes, sep='\n', flush=True)
        save_artifact(path, training.detector, training.manifest)
    return Engine.of(*load_artifact(path), 'cpu')


def ablated_engine(
    output: Path,
    method: str,
    data: Sequence[Path],
    max_images: int | None,
    seed: int,
    row: dict[str, object],
    weights: Path,
) -> Engine:
    """Change options of the model of all sets that need no training but that of a stage before.

    Args:
        output: As of `joint_engine`, which has been there before.
        method: Likewise.
        data: Likewise.
        max_images: Likewise.
        seed: Likewise.
        row: Options that change. Without `reflows` the flow is the one before them.
        weights: A folder of weights, if the backbone changes.
    """
    path = _model(output, method, max_images, seed)
    detector, manifest = load_artifact(path)
    config = {**dataclasses.asdict(detector.config), **row}
    changed = find_method(method).detector(build_config(method, config))
    changed.load_pretrained(weights)
    state = detector.state_dict()
    if config['reflows'] == 0:
        kept = torch.load(path.with_suffix('.checkpoints') / 'flow.checkpoint', weights_only=True)
        flow = kept['state']['module']
        state |= {f'denoiser.{name}': values for name, values in flow.items()}
    # The backbone is the row's own, and what is seen there is compared as the row says.
    wanted = changed.state_dict()
    own = ('backbone.', 'class_means.', 'difference.')
    changed.load_state_dict(
        {name: x if name.startswith(own) else state[name] for name, x in wanted.items()}
    )
    assert isinstance(changed, TimeNetDetector)
    changed.eval().requires_grad_(requires_grad=False)
    images, classes = [], []
    for index, folder in enumerate(data):
        for image in load_good_images(read_folder(folder), COMPARED, seed).images:
            images.append(to_tensor(image, config['channels'], manifest.input_size, CPU))
            classes.append(index)
    changed.backbone.fit_level_offsets(torch.cat(images))
    fit_comparison(changed, torch.cat(images), torch.tensor(classes))
    return Engine.of(changed, manifest, 'cpu')


def _model(output: Path, method: str, max_images: int | None, seed: int) -> Path:
    return output / f'{method}-{max_images or "all"}-{seed}.safetensors'


def _tell(stage: str, step: int, steps: int, loss: float | None) -> None:
    if step == steps or step % 100 == 0:
        print(f'{stage} {step}/{steps}', '' if loss is None else f'{loss:.4g}', flush=True)
