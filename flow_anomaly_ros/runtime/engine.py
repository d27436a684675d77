# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The engine: images in, inspections out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import functools
from pathlib import Path
import time

import cv2
from flow_anomaly_ros.detectors.base import Detector
from flow_anomaly_ros.runtime.artifact import ArtifactError, load_artifact
from flow_anomaly_ros.runtime.backends.base import Backend, PRECISIONS
from flow_anomaly_ros.runtime.backends.onnx import OnnxBackend
from flow_anomaly_ros.runtime.backends.openvino import OpenVinoBackend
from flow_anomaly_ros.runtime.backends.pytorch import PyTorchBackend
from flow_anomaly_ros.runtime.export_formats import EXPORT_SUFFIXES
from flow_anomaly_ros.runtime.golden_sample import to_image
from flow_anomaly_ros.runtime.manifest import Manifest
from flow_anomaly_ros.runtime.tiling import tiled
from flow_anomaly_ros.scoring.regions import Region
from flow_anomaly_ros.scoring.roi import apply_roi, resize_roi
from flow_anomaly_ros.scoring.thresholds import classify, Thresholds, Verdict
import numpy as np

# Backends of exported models, by file suffix.
EXPORTED_BACKENDS: dict[str, type[OnnxBackend | OpenVinoBackend]] = {
    EXPORT_SUFFIXES['onnx']: OnnxBackend,
    EXPORT_SUFFIXES['openvino']: OpenVinoBackend,
}


@dataclass(frozen=True, eq=False)
class Inspection:
    """The result of inspecting one image.

    Attributes:
        scores: hxw float32, the score map at the size the detector made it.
        mask: HxW uint8, 255 = abnormal, 0 = normal.
        regions: Defect regions, highest score first.
        image_score: Score of the whole image, in the units of the thresholds.
        verdict: ok, uncertain or defect.
        part_class: Name of the class that the part was assigned to; empty if it has none.
        thresholds: Thresholds of the verdict.
        timings: Milliseconds by stage; `preprocess` and `detect` are shared by a batch. On a GPU
            `detect` includes the wait for what `preprocess` has queued there.
    """

    scores: np.ndarray
    mask: np.ndarray
    regions: tuple[Region, ...]
    image_score: float
    verdict: Verdict
    part_class: str
    thresholds: Thresholds
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
    """What a verdict on an image is based on.

    Attributes:
        thresholds: Thresholds for each class of the model.
        roi: Region of interest, hxw bool of the image's aspect ratio, True where defects count;
            None for everywhere.
        part_class: Name of the part's class; empty: the detector estimates it.
    """

    thresholds: tuple[Thresholds, ...]
    roi: np.ndarray | None = None
    part_class: str = ''
    _rois: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def apply_roi(self, score_map: np.ndarray, image_score: float) -> tuple[np.ndarray, float]:
        """Apply the region of interest; see `scoring.roi.apply_roi`."""
        roi = self.roi_of(score_map.shape)
        return (score_map, image_score) if roi is None else apply_roi(score_map, image_score, roi)

    def roi_of(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return the region of interest at the size of a score map."""
        if self.roi is not None and size not in self._rois:
            # Cached: images of a camera have one size.
            self._rois[size] = resize_roi(self.roi, size)
        return self._rois.get(size)


class Engine:
    """Preprocesses, detects and scores one image or a batch on one device.

    Args:
        backend: Runs the detector.
        manifest: The detector's manifest.
    """

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        self.backend = backend
        self.manifest = manifest

    @classmethod
    def of(
        cls,
        detector: Detector,
        manifest: Manifest,
        device: str = 'auto',
        precision: str = 'float32',
        compiled: bool = False,
        frozen: bool = False,
    ) -> 'Engine':
        """Make an engine for a detector in PyTorch; see `PyTorchBackend` and its `freeze`.

        Raises:
            ValueError: The device cannot be used.
        """
        backend = PyTorchBackend(
            tiled(detector, manifest.tile),
            manifest.input_size,
            manifest.max_value,
            device,
            precision,
            compiled,
        )
        if frozen:
            backend.freeze()
        return cls(backend, manifest)

    @classmethod
    def load(
        cls,
        path: Path,
        device: str = 'auto',
        precision: str = 'float32',
        compiled: bool = False,
    ) -> 'Engine':
        """Load a model file into an engine and warm it up; the file suffix selects the backend.

        Args:
            path: A .safetensors file of `flow-anomaly train`, or an .onnx or .xml file of
                `flow-anomaly export`.
            device: Name of a device, see `PyTorchBackend`, `OnnxBackend` and `OpenVinoBackend`.
            precision: One of `PRECISIONS` that the backend supports.
            compiled: See `PyTorchBackend`; exported models ignore it.

        Raises:
            ArtifactError: The file cannot be used.
            ValueError: The device or the precision is not available, or fails the check of
                `require_golden_sample`.
        """
        if precision not in PRECISIONS:
            msg = f'unknown precision {precision!r}: use one of {", ".join(PRECISIONS)}'
            raise ValueError(msg)
        path = Path(path)
        exported = EXPORTED_BACKENDS.get(path.suffix)
        if exported:
            if not path.is_file():
                msg = f'no model file at {path}: write one with flow-anomaly export'
                raise ArtifactError(msg)
            backend = exported(path, device, precision)
            engine = cls(backend, backend.manifest)
        else:
            detector, manifest = load_artifact(path)
            engine = cls.of(detector, manifest, device, precision, compiled, frozen=True)
        engine.warm_up()
        try:
            engine.require_golden_sample()
        except ValueError as error:
            engine.close()
            msg = f'{path} cannot be used with {engine.backend.name}: {error}'
            raise ValueError(msg) from error
        return engine

    def warm_up(self) -> None:
        """Run once on an empty image, so that the first part is not delayed."""
        self.inspect([np.zeros(self.manifest.image_size, np.uint8)])

    def require_golden_sample(self) -> None:
        """Check that the golden sample of the model file is ok here.

        Reduced precision can be too coarse for parts that hardly vary.

        Raises:
            ValueError: It is not ok; one line.
        """
        if not self.manifest.golden_sample:
            return
        image = to_image(self.manifest.golden_sample, self.manifest.input_size)
        found = self.inspect_first_class(image)
        if found.verdict != Verdict.OK:
            msg = (
                f'its golden sample is classified as {found.verdict} (score '
                f'{found.image_score:.3g}, uncertain from {found.thresholds.uncertain:.3g}): use '
                'float32, or another device or backend'
            )
            raise ValueError(msg)

    def close(self) -> None:
        """Free the device's memory; the engine cannot be used afterwards."""
        self.backend.close()

    def inspect(
        self, images: Sequence[np.ndarray], criteria: Sequence[Criteria] | None = None
    ) -> list[Inspection]:
        """Inspect a batch of images.

        Args:
            images: HxW (grey) or HxWx3 RGB arrays, uint8 or uint16; sizes may differ.
            criteria: Criteria of each image; None uses the calibrated thresholds for all.

        Returns:
            One inspection per image, in the same order.

        Raises:
            ValueError: An array is not such an image, or a class is not in the model.
        """
        if not images:
            return []
        criteria = criteria or [Criteria(self.manifest.thresholds)] * len(images)
        wanted = [self.manifest.class_index(criterion.part_class) for criterion in criteria]
        start = time.perf_counter()
        batch = self.backend.prepare(images)
        prepared = time.perf_counter()
        score_maps, image_scores, classes = self.backend.detect(batch, wanted)
        detected = time.perf_counter()
        shared = {'preprocess': 1e3 * (prepared - start), 'detect': 1e3 * (detected - prepared)}
        return [
            self._classify(image.shape[:2], score_map, score, index, criterion, shared)
            for image, score_map, score, index, criterion in zip(
                images, score_maps, image_scores.tolist(), classes.tolist(), criteria, strict=True
            )
        ]

    def inspect_first_class(self, image: np.ndarray) -> Inspection:
        """Inspect an image of the first class, that of `Manifest.golden_sample`; see `inspect`."""
        manifest = self.manifest
        criteria = Criteria(manifest.thresholds, part_class=manifest.classes[0].name)
        return self.inspect([image], [criteria])[0]

    def explain(self, image: np.ndarray, part_class: str = '') -> list[dict[str, np.ndarray]]:
        """Return pictures of what the detector compared; see `Backend.explain`.

        Args:
            image: As in `inspect`.
            part_class: Name of the part's class; empty: the detector estimates it.
        """
        return self.backend.explain(image, self.manifest.class_index(part_class))

    def _classify(
        self,
        size: tuple[int, int],
        score_map: np.ndarray,
        score: float,
        part_class: int,
        criteria: Criteria,
        shared: dict[str, float],
    ) -> Inspection:
        start = time.perf_counter()
        score_map, score = criteria.apply_roi(score_map, score)
        thresholds = criteria.thresholds[part_class]
        roi = criteria.roi_of(score_map.shape)
        mask, regions, verdict = classify(score_map, score, thresholds, size, roi)
        name = self.manifest.classes[part_class].name
        timings = {**shared, 'regions': 1e3 * (time.perf_counter() - start)}
        return Inspection(score_map, mask, regions, score, verdict, name, thresholds, timings)
