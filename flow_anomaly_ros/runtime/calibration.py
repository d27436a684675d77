# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores that thresholds are based on, and recalibration with more good parts."""

from collections.abc import Sequence
import dataclasses
import hashlib
from typing import Any

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.detectors.base import Detector
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.manifest import Manifest, PartClass
from flow_anomaly_ros.runtime.preprocess import to_tensor
from flow_anomaly_ros.runtime.tiling import tiled
from flow_anomaly_ros.scoring.calibration import (
    calibrate,
    CalibrationScores,
    merge,
    outliers,
    PIXEL_RATE,
    Rates,
    too_many_above,
)
import numpy as np
import torch
from torch import Tensor

# Thresholds lie at least this factor above the scores of an accepted part: the next image of the
# same part is not exactly the same.
MARGIN = 1.02
# In files of format 9 and earlier the uncertain threshold was that of this many times the rate of
# the defect threshold.
FORMER_UNCERTAIN_FACTOR = 2.0


@torch.inference_mode()
def score_images(detector: Detector, images: Tensor, part_class: int = 0) -> CalibrationScores:
    """Score good parts of one class.

    Args:
        detector: The detector.
        images: NxCxHxW in [0, 1], on its device.
        part_class: Index of the class.
    """

    def score(part: slice) -> list[Tensor]:
        batch = images[part]
        classes = torch.full((len(batch),), part_class, device=batch.device)
        score_map, image_score, _ = detector(batch, classes)
        return [score_map, image_score]

    score_maps, scores = data_parallel.map_sharded(score, len(images), 8)
    maps = score_maps.float().cpu().numpy()
    return CalibrationScores(
        image_scores=scores.double().cpu().numpy(),
        peaks=maps.max(axis=(1, 2)).astype(np.float64),
        pixel_quantile=float(np.quantile(maps, 1 - PIXEL_RATE)),
    )


def calibration_record(scores: CalibrationScores, rates: Rates, spread: float) -> dict[str, object]:
    """Return plain values for `PartClass.calibration`."""
    return {
        'false_positive_rate': rates.false_positive,
        'uncertain_rate': rates.uncertain,
        'spread': spread,
        'images': len(scores.image_scores),
        'image_scores': scores.image_scores.tolist(),
        'peaks': scores.peaks.tolist(),
        'pixel_quantile': scores.pixel_quantile,
    }


def image_digest(image: np.ndarray) -> str:
    """Identify an image by its pixels."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:32]


def recalibrate(
    detector: Detector,
    manifest: Manifest,
    images: Sequence[np.ndarray],
    accept: bool = False,
    part_class: str = '',
) -> Manifest:
    """Recompute thresholds with more good parts.

    Their scores join those that the thresholds are based on.

    Args:
        detector: The trained detector.
        manifest: Its manifest.
        images: Good parts, HxW or HxWx3 RGB, uint8 or uint16. Those the detector was trained on
            and those that were added before do not count again.
        accept: A person has inspected these parts, which may have been rejected, and found them
            good: from now on the thresholds lie above their scores, whatever the requested rate.
        part_class: Name of their class; empty for a model of a single class.

    Returns:
        The manifest with the new thresholds.

    Raises:
        ValueError: The model file lacks the scores of its calibration, or has several classes and
            not the one that is named; one line.
    """
    index = manifest.class_index(part_class) or 0
    if not part_class and len(manifest.classes) > 1:
        names = ', '.join(part_class.name for part_class in manifest.classes)
        msg = f'the model has several classes of parts: name one of {names}'
        raise ValueError(msg)
    old_class = manifest.classes[index]
    known: dict[str, Any] = dict(old_class.calibration)
    lacking = {'false_positive_rate', 'image_scores', 'peaks', 'pixel_quantile'} - known.keys()
    trained = manifest.training.get('digests')
    if lacking or not isinstance(trained, list):
        msg = 'the model file has no calibration scores: retrain the model'
        raise ValueError(msg)
    added = {'digests': [], 'image_score': 0.0, 'peak': 0.0, **known.get('added', {})}
    seen = {*trained, *added['digests']}
    scores = {image_digest(image): _score(detector, manifest, image, index) for image in images}
    new = {digest: image_scores for digest, image_scores in scores.items() if digest not in seen}
    old = CalibrationScores(
        np.array(known['image_scores']), np.array(known['peaks']), known['pixel_quantile']
    )
    merged = merge([old, *new.values()])
    added['digests'] = [*added['digests'], *new]
    if accept:
        for accepted in scores.values():
            added['image_score'] = max(added['image_score'], float(accepted.image_scores[0]))
            added['peak'] = max(added['peak'], float(accepted.peaks[0]))
    rate = known['false_positive_rate']
    rates = Rates(rate, known.get('uncertain_rate', min(FORMER_UNCERTAIN_FACTOR * rate, 0.49)))
    spread = known.get('spread', 0.0)
    limits = calibrate(merged, rates, spread)
    raised = limits.override(
        uncertain=max(limits.uncertain, MARGIN * added['image_score']),
        defect=max(limits.defect, MARGIN * added['image_score']),
        region=max(limits.region, MARGIN * added['peak']),
        rule=old_class.thresholds.rule,
        min_area=old_class.thresholds.min_area,
    )
    classes = [*manifest.classes]
    calibration = calibration_record(merged, rates, spread) | {'added': added}
    classes[index] = PartClass(old_class.name, raised, calibration)
    renewed = dataclasses.replace(manifest, classes=tuple(classes))
    try:
        Engine.of(detector, renewed, str(_device_of(detector))).require_golden_sample()
    except ValueError:
        # The new thresholds reject it: the model gets no golden sample.
        return dataclasses.replace(renewed, golden_sample='')
    return renewed


def find_suspicious_images(before: PartClass, after: PartClass) -> dict[str, float]:
    """Find images that `recalibrate` has added and that look defective.

    They do if their scores are outliers, or if the previous thresholds reject more of them than
    chance explains, such as a single one: outliers in a group hide each other.

    Returns:
        Digest and score of each, the worst first.
    """
    calibration: dict[str, Any] = after.calibration
    added = calibration['added']
    first = len(before.calibration_scores)
    scores = np.array(after.calibration_scores)
    digests = added['digests'][first - len(scores) :]
    found = outliers(scores, first, calibration['spread'])
    rejected = first + np.flatnonzero(scores[first:] >= before.thresholds.defect)
    rate = calibration['false_positive_rate']
    if too_many_above(len(rejected), len(scores) - first, rate):
        found = rejected[np.argsort(-scores[rejected])].tolist()
    return {digests[index - first]: float(scores[index]) for index in found}


def _score(
    detector: Detector, manifest: Manifest, image: np.ndarray, part_class: int
) -> CalibrationScores:
    channels = detector.config.channels
    device = _device_of(detector)
    batch = to_tensor(image, channels, manifest.input_size, device, manifest.max_value)
    return score_images(tiled(detector, manifest.tile), batch, part_class)


def _device_of(detector: Detector) -> torch.device:
    return next((tensor.device for tensor in detector.state_dict().values()), torch.device('cpu'))
