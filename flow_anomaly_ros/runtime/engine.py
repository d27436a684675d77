# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The engine: camera images in, inspections out."""

from collections.abc import Sequence
from dataclasses import dataclass
import functools
from pathlib import Path
import time

import cv2
from flow_anomaly_ros.detectors.base import Detector
from flow_anomaly_ros.layers.resample import resize, resize_image
from flow_anomaly_ros.runtime.artifact import load_artifact
from flow_anomaly_ros.runtime.device import select_device
from flow_anomaly_ros.runtime.manifest import Manifest
from flow_anomaly_ros.runtime.tiling import tiled
from flow_anomaly_ros.scoring.regions import Region
from flow_anomaly_ros.scoring.roi import restrict
from flow_anomaly_ros.scoring.thresholds import judge, Thresholds, Verdict
import numpy as np
import torch
from torch import Tensor

# ITU-R BT.601, as OpenCV's RGB to grey conversion.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Inspection:
    """The result of inspecting one image.

    Attributes:
        scores: hxw float32, the score map at the size the detector made it.
        mask: HxW uint8, 255 = abnormal, 0 = normal.
        regions: Defect regions, the worst first.
        image_score: Score of the whole image, in the units of the thresholds.
        verdict: ok, uncertain or defect.
        timings: Milliseconds by stage; `preprocess` and `detect` are shared by a batch.
    """

    scores: np.ndarray
    mask: np.ndarray
    regions: tuple[Region, ...]
    image_score: float
    verdict: Verdict
    timings: dict[str, float]

    @functools.cached_property
    def score_map(self) -> np.ndarray:
        """HxW float32 at the size of the camera image; larger = more anomalous."""
        if self.scores.shape == self.mask.shape:
            return self.scores
        return self.write_score_map(np.empty(self.mask.shape, np.float32))

    def write_score_map(self, target: np.ndarray) -> np.ndarray:
        """Write the score map to an array of HxW float32, and return that."""
        return cv2.resize(
            self.scores, target.shape[::-1], dst=target, interpolation=cv2.INTER_LINEAR
        )


@dataclass(frozen=True, eq=False)
class Criteria:
    """What an image is judged by.

    Attributes:
        thresholds: Limits on scores.
        roi: Region of interest, hxw bool of the image's aspect ratio, True where defects count;
            None for everywhere.
    """

    thresholds: Thresholds
    roi: np.ndarray | None = None


class Engine:
    """Preprocess, detect and score, for one image or a batch, on one device.

    Args:
        detector: Trained detector.
        manifest: Its manifest.
        device: Device name, see `select_device`.
    """

    def __init__(self, detector: Detector, manifest: Manifest, device: str = 'auto') -> None:
        self.device = select_device(device)
        self.detector = tiled(detector, manifest.tile).to(self.device).eval()
        self.manifest = manifest

    @classmethod
    def load(cls, path: Path, device: str = 'auto') -> 'Engine':
        """Make an engine from a model file.

        Raises:
            ArtifactError: The file cannot be used.
            ValueError: The device cannot be used.
        """
        detector, manifest = load_artifact(Path(path))
        return cls(detector, manifest, device)

    def warm_up(self) -> None:
        """Run once on an empty image, so that the first part is not late."""
        self.inspect([np.zeros(self.manifest.image_size, np.uint8)])

    def close(self) -> None:
        """Free the device's memory; the engine is of no use afterwards."""
        del self.detector
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def inspect(
        self, images: Sequence[np.ndarray], criteria: Sequence[Criteria] | None = None
    ) -> list[Inspection]:
        """Inspect a batch of images.

        Args:
            images: HxW (grey) or HxWx3 RGB arrays, uint8 or uint16; sizes may differ.
            criteria: What each is judged by; None takes the calibrated thresholds for all.

        Returns:
            One inspection per image, in the same order.

        Raises:
            ValueError: An array that is no such image.
        """
        if not images:
            return []
        start = time.perf_counter()
        batch = torch.cat([self._preprocess(image) for image in images])
        prepared = time.perf_counter()
        output = self.detector(batch)
        score_maps = output.score_map.float().cpu().numpy()
        image_scores = output.image_score.float().cpu().tolist()
        detected = time.perf_counter()
        shared = {'preprocess': 1e3 * (prepared - start), 'detect': 1e3 * (detected - prepared)}
        criteria = criteria or [Criteria(self.manifest.thresholds)] * len(images)
        return [
            _judge(image.shape[:2], score_map, score, one, shared)
            for image, score_map, score, one in zip(
                images, score_maps, image_scores, criteria, strict=True
            )
        ]

    @torch.inference_mode()
    def explain(self, image: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Pictures of what the detector compared, rows of captions and RGB or grey uint8 arrays.

        Raises:
            ValueError: An array that is no image.
        """
        rows = self.detector.explain(self._preprocess(image))
        return [{caption: _to_picture(x[0]) for caption, x in row.items()} for row in rows]

    def _preprocess(self, image: np.ndarray) -> Tensor:
        channels = self.detector.config.channels
        return to_tensor(image, channels, self.manifest.input_size, self.device)


def _judge(
    size: tuple[int, int],
    score_map: np.ndarray,
    score: float,
    criteria: Criteria,
    shared: dict[str, float],
) -> Inspection:
    start = time.perf_counter()
    if criteria.roi is not None:
        score_map, score = restrict(score_map, score, criteria.roi)
    mask, regions, verdict = judge(score_map, score, criteria.thresholds, size)
    timings = {**shared, 'score': 1e3 * (time.perf_counter() - start)}
    return Inspection(score_map, mask, regions, score, verdict, timings)


def _to_picture(image: Tensor) -> np.ndarray:
    """CxHxW in [0, 1] to HxW or HxWx3 uint8."""
    array = (255 * image.clamp(0, 1)).round().to(torch.uint8).cpu().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)


def to_tensor(
    image: np.ndarray, channels: int, size: tuple[int, int], device: torch.device
) -> Tensor:
    """Turn a camera image into a detector's input.

    Args:
        image: HxW or HxWx3 RGB array, uint8 or uint16.
        channels: 1 or 3; grey is repeated, colour is reduced to luma.
        size: Target (height, width).
        device: Where to.

    Returns:
        1xCxheightxwidth float32 in [0, 1].

    Raises:
        ValueError: Another shape or type.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.size == 0:
        msg = f'an image must hold uint8 or uint16 pixels, not {image.dtype} {image.shape}'
        raise ValueError(msg)
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        msg = f'an image must be HxW (grey) or HxWx3 (RGB), not {image.shape}'
        raise ValueError(msg)
    scale = float(np.iinfo(image.dtype).max)
    # torch warns of arrays that it must not write to, though nothing does.
    array = image if image.flags.writeable and image.flags.c_contiguous else image.copy()
    # torch has few operations on uint16.
    array = resize_image(array, size) if image.dtype == np.uint8 else array.astype(np.float32)
    pixels = torch.from_numpy(array).to(device).float() / scale
    pixels = pixels[None, None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)[None]
    pixels = resize(pixels, size).clamp(0, 1)
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    return (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
