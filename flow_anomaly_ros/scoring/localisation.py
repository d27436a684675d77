# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of each image: whether, and how well, a score map shows where the defect is."""

from collections.abc import Sequence
import itertools

import cv2
from flow_anomaly_ros.scoring.roi import resize_roi
import numpy as np

# AUPIMO's range of false-positive rates, and the number of rates that are evaluated in it.
AUPIMO_FPR = (1e-5, 1e-4)
AUPIMO_POINTS = 101
# What is cut out around a defect to see what else differs, as a share of the image's shorter side:
# score maps spread beyond a defect by their smoothing and by what coarse features see at once.
MARGIN = 1 / 8


def points_at_defect(score_map: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the pixel with the highest score lies in the defect: one round of the pointing game.

    Like Zhang et al., "Top-down neural attention by excitation backprop", IJCV 126, 2018, but
    without its tolerance of 15 px.

    Args:
        score_map: HxW, larger = more anomalous. Of several highest pixels the first one counts.
        mask: HxW; 0 or False = good, anything else = anomalous.
    """
    return bool(mask.ravel()[score_map.argmax()])


def peaks_outside(
    score_maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest score of each image outside of the defects and a margin around them.

    If these scores tell defective images from good ones, the images differ by more than their
    defects, such as by their brightness. The areas that are cut out of the defective images are cut
    out of good ones in turn, since the maximum of a larger area is higher.

    Args:
        score_maps: B score maps HxW, larger = more anomalous; sizes may differ.
        masks: B ground-truth masks of the same sizes; 0 or False = good, anything else = anomalous.

    Returns:
        The scores, and whether they are of defective images; images of which nothing remains are
        left out.
    """
    rests = [_outside(mask) for mask in masks if mask.any()]
    defective, good, peaks, labels = itertools.cycle(rests), itertools.cycle(rests), [], []
    for score_map, mask in zip(score_maps, masks, strict=True):
        is_defective = bool(mask.any())
        # A good image may have another size than the defective one whose area it takes.
        rest = score_map[resize_roi(next(defective if is_defective else good), score_map.shape)]
        if rest.size:
            peaks.append(float(rest.max()))
            labels.append(is_defective)
    return np.array(peaks), np.array(labels, dtype=bool)


def _outside(mask: np.ndarray) -> np.ndarray:
    distance = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return distance > MARGIN * min(mask.shape)


def aupimo(
    score_maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> list[float | None] | None:
    """Area under the per-image overlap curve at very low false-positive rates.

    The false-positive rate is that of the pixels of good images alone, from 1e-5 to 1e-4, on a
    logarithmic scale; the overlap is the share of an image's defective pixels that are above the
    threshold. Unlike AUPRO it asks what is found while good parts stay clean, and tells it for each
    image (Bertoldo et al., "AUPIMO: Redefining visual anomaly detection benchmarks with high speed
    and low tolerance", BMVC 2024).

    Args:
        score_maps: B finite score maps HxW, larger = more anomalous.
        masks: B ground-truth masks of the same sizes; 0 or False = good, anything else = anomalous.

    Returns:
        One area in [0, 1] for each image, None for those of good parts; None if good images have
        fewer than 100 000 pixels together, or no image is defective.
    """
    pairs = list(zip(score_maps, masks, strict=True))
    good = [score_map.ravel() for score_map, mask in pairs if not mask.any()]
    count = sum(scores.size for scores in good)
    if count * AUPIMO_FPR[0] < 1 or len(good) == len(pairs):
        return None
    scores = np.sort(np.concatenate(good))
    rates = np.geomspace(*AUPIMO_FPR, AUPIMO_POINTS)
    # As many good pixels lie above each threshold as its rate allows.
    thresholds = scores[count - 1 - np.floor(rates * count).astype(int)]
    areas: list[float | None] = []
    for score_map, mask in pairs:
        if not mask.any():
            areas.append(None)
            continue
        found = np.sort(score_map[mask != 0])
        overlap = 1 - found.searchsorted(thresholds, side='right') / found.size
        # The trapezoidal rule: the rates are equidistant on the logarithmic scale.
        areas.append(float((overlap[:-1] + overlap[1:]).mean() / 2))
    return areas
