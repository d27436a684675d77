# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Exports a trained detector, preprocessing included, as one graph for other runtimes."""

import contextlib
from pathlib import Path
import tempfile
from typing import Any, cast
import warnings

import cv2
from flow_anomaly_ros.detectors.base import Detector
from flow_anomaly_ros.layers.inference import fuse_for_inference
from flow_anomaly_ros.layers.quantisation import is_quantised
from flow_anomaly_ros.runtime.artifact import MANIFEST_KEY
from flow_anomaly_ros.runtime.backends.exported import import_library
from flow_anomaly_ros.runtime.engine import Engine, EXPORTED_BACKENDS
from flow_anomaly_ros.runtime.export_formats import EXPORT_SUFFIXES
from flow_anomaly_ros.runtime.manifest import Manifest
from flow_anomaly_ros.runtime.preprocess import convert_colours
import numpy as np
import torch
from torch import nn, Tensor
from torch.export import Dim
from torch.nn import functional

OPSET = 18
# What score maps of an exported model may differ by, in units of a score or of the threshold of
# defects, whichever is greater: at all pixels but a share, as a method that takes the nearest point
# may take another that is as near. In int8 it is the root mean square that counts: sums that lie
# between two whole numbers are rounded to either. Of images of 8 bits: those of 16 are rounded on
# the way, which moves scores by up to a hundredth more.
TOLERANCE = 1e-3
TIED_SHARE, TIED_TOLERANCE = 5e-3, 5e-2
INT8_TOLERANCE = 5e-2


class ExportableDetector(nn.Module):
    """Detector with its preprocessing: RGB bytes in, scores out.

    Args:
        detector: Trained detector.
        size: (height, width) of its input in px.
        resizes: Whether it accepts images of any size.
    """

    def __init__(self, detector: Detector, size: tuple[int, int], resizes: bool) -> None:
        super().__init__()
        self.detector = detector
        self.size = size
        self.resizes = resizes

    def forward(self, images: Tensor, classes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Score images.

        Args:
            images: BxHxWx3 RGB, 0 to 255.
            classes: B indices of their classes, below 0 to have one estimated; None for a detector
                of a single class.

        Returns:
            Score maps, Bxhxw at the size of the detector's input, image scores, B, and, if classes
            were given, those that the images were assigned to, B.
        """
        pixels = images.permute(0, 3, 1, 2).float()
        if self.resizes:
            pixels = functional.interpolate(
                pixels, size=self.size, mode='bilinear', align_corners=False, antialias=True
            )
        # Rounded to integer levels, as training images are.
        pixels = pixels.round().clamp(0, 255) / 255
        pixels = convert_colours(pixels, self.detector.config.channels)
        if classes is None:
            score_map, image_score, _ = self.detector(pixels)
            return score_map, image_score
        return self.detector(pixels, classes)


def export(path: Path, detector: Detector, manifest: Manifest, backend: str) -> float:
    """Write a detector for another runtime, after a comparison of its scores with PyTorch's.

    Inputs and outputs are those of `ExportableDetector`: `images`, uint8 of any batch, height and
    width; `score_map` and `image_score`; and, for detectors of several classes, `classes` (int64)
    in and `known_classes` out. The manifest, with the thresholds, goes into the metadata. The
    graph of a tiled model scores one tile: `Engine` cuts images into tiles and blends the scores.

    Args:
        path: Target, .onnx or .xml (with a .bin beside it); existing files are replaced.
        detector: Trained detector on the CPU; its layers are fused for inference.
        manifest: Its manifest.
        backend: A name in `EXPORT_SUFFIXES`.

    Returns:
        The maximum relative difference of score maps from PyTorch's, on random images; for int8
        the root mean square.

    Raises:
        ValueError: A wrong file suffix, a library is not installed, or the exported model scores
            differently; one line.
    """
    if path.suffix != EXPORT_SUFFIXES[backend]:
        msg = f'{path}: output must end in {EXPORT_SUFFIXES[backend]} for backend {backend}'
        raise ValueError(msg)
    for name in ('onnx', 'onnxscript', *({'openvino'} & {backend})):
        import_library(name, path)
    is_int8 = is_quantised(detector)
    if is_int8 and not hasattr(torch.onnx, 'ops'):
        msg = f'{path}: exporting int8 needs torch>=2.8, not {torch.__version__}'
        raise ValueError(msg)
    fuse_for_inference(detector)
    write = _write_onnx if backend == 'onnx' else _write_openvino
    with tempfile.TemporaryDirectory(prefix=f'.{path.name}.', dir=path.parent) as folder:
        written = Path(folder) / path.name
        write(written, detector, manifest)
        runtime = EXPORTED_BACKENDS[path.suffix](written, 'cpu')
        with contextlib.closing(Engine(runtime, runtime.manifest)) as exported:
            try:
                difference = _checked_difference(
                    Engine.of(detector, manifest, 'cpu'), exported, is_int8=is_int8
                )
                exported.require_golden_sample()
            except ValueError as error:
                msg = f'{path} was not written: {error}'
                raise ValueError(msg) from error
        # The model file comes last: once it exists, its weights do too.
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.suffix == path.suffix):
            file.replace(path.parent / file.name)
    return difference


def _write_onnx(path: Path, detector: Detector, manifest: Manifest) -> None:
    model = _to_onnx(detector, manifest, torch.uint8)
    model.metadata_props.add(key=MANIFEST_KEY, value=manifest.to_json())
    path.write_bytes(model.SerializeToString())


def _write_openvino(path: Path, detector: Detector, manifest: Manifest) -> None:
    import openvino
    from openvino import preprocess

    # OpenVINO's ONNX reader ignores antialiasing, so it resizes the images itself.
    graph = _to_onnx(detector, manifest, torch.float32)
    builder = preprocess.PrePostProcessor(openvino.Core().read_model(graph.SerializeToString()))
    images, layout = builder.input('images'), openvino.Layout('NHWC')
    images.tensor().set_element_type(openvino.Type.u8).set_layout(layout)
    images.tensor().set_spatial_dynamic_shape()
    images.model().set_layout(layout)
    steps = images.preprocess().convert_element_type(openvino.Type.f32)
    steps.resize(preprocess.ResizeAlgorithm.RESIZE_BILINEAR_PILLOW)
    model = builder.build()
    model.set_rt_info(manifest.to_json(), MANIFEST_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


def _checked_difference(reference: Engine, exported: Engine, is_int8: bool) -> float:
    """Return the relative difference of score maps, and check it against the tolerances."""
    differences = _differences(reference, exported)
    if is_int8:
        checks = [(np.sqrt(np.square(differences).mean()), INT8_TOLERANCE)]
    else:
        nearly_all = np.quantile(differences, 1 - TIED_SHARE)
        checks = [(nearly_all, TOLERANCE), (differences.max(), TIED_TOLERANCE)]
    for difference, tolerance in checks:
        if not difference <= tolerance:
            msg = (
                f'relative score difference {difference:.2g} from PyTorch exceeds the tolerance of '
                f'{tolerance:g}'
            )
            raise ValueError(msg)
    return float(checks[-1][0])


def _differences(reference: Engine, exported: Engine) -> np.ndarray:
    """Differences of score maps of random images, relative to scores or thresholds."""
    height, width = reference.manifest.input_size
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    smooth = [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse]
    noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    images = [*smooth, noise]
    wanted, found = (
        np.stack([inspection.scores for inspection in engine.inspect(images)])
        for engine in (reference, exported)
    )
    lowest = min(thresholds.defect for thresholds in reference.manifest.thresholds)
    unit = np.maximum(np.abs(wanted), max(lowest, float(np.finfo(np.float32).tiny)))
    return np.abs(found - wanted) / unit


def _to_onnx(detector: Detector, manifest: Manifest, pixels: torch.dtype) -> Any:
    """Trace a detector as an onnx.ModelProto.

    Args:
        detector: Trained detector on the CPU.
        manifest: Its manifest.
        pixels: Type of the images: uint8 for any number of any size, float32 for a single one of
            the detector's size.
    """
    size = manifest.network_input_size
    resizes = pixels == torch.uint8
    # No variable dimension is 1 or equals another one: the tracer would treat it as a constant.
    height, width = (side + 8 * resizes for side in size)
    count = 2 if resizes else 1
    images = torch.zeros(count, height, width, 3, dtype=pixels)
    inputs: tuple[Tensor, ...] = (images,)
    batch = Dim('batch')
    names = ['images']
    shapes = [{0: batch, 1: Dim('height', min=2), 2: Dim('width', min=2)}]
    outputs = ['score_map', 'image_score']
    if detector.class_count > 1:
        inputs = (images, torch.tensor([-1, 0][:count]))
        names.append('classes')
        shapes.append({0: batch})
        outputs.append('known_classes')
    graph = ExportableDetector(detector, size, resizes).eval()
    for module in graph.modules():
        # In-place activations are traced as a dozen operations each: a quarter of the time.
        if hasattr(module, 'inplace'):
            cast(Any, module).inplace = False
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter warns about its own internals.
        warnings.simplefilter('ignore')
        # Constants that the first image computes are computed now, outside of the graph.
        graph(*inputs)
        program = torch.onnx.export(
            graph,
            inputs,
            dynamo=True,
            dynamic_shapes=tuple(shapes) if resizes else None,
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            # OpenVINO optimises the graph when it reads it; only the ONNX file needs it here.
            optimize=resizes,
            verbose=False,
        )
    assert program is not None
    return program.model_proto
