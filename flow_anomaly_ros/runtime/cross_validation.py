# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores images of good parts with detectors that have not seen them, for calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
import re
from typing import Protocol

from flow_anomaly_ros.detectors.base import Detector, FitReport, no_progress, Progress
from flow_anomaly_ros.runtime.calibration import score_images
from flow_anomaly_ros.scoring.calibration import CalibrationScores, merge
import numpy as np
import torch
from torch import Tensor

# A detector that cannot leave out images is trained again: up to this many images per class, each
# is held out in one of FOLDS trainings, and the detector is then trained on all of them; with more,
# a share is held out for good.
MAX_FOLD_IMAGES = 100
FOLDS = 5
HELD_OUT_SHARE = 0.2
MIN_HELD_OUT = 40
# Begins the names of the stages of a fold.
FOLD_PREFIX = 'calibration {}/{} '


class FitOnSubset(Protocol):
    """Trains a detector on some of the images."""

    def __call__(self, chosen: Tensor, stage_prefix: str) -> tuple[Detector, FitReport]:
        """Train.

        Args:
            chosen: K indices of images.
            stage_prefix: Begins the names of the training's stages; empty for the detector that is
                kept, not empty for those of a fold.
        """


@dataclass(frozen=True)
class HeldOut:
    """Scores of the held-out images of a class.

    Attributes:
        indices: N indices of the images.
        scores: Their scores, in the same order.
    """

    indices: Tensor
    scores: CalibrationScores

    @classmethod
    def merged(cls, parts: Sequence['HeldOut']) -> 'HeldOut':
        """Join the images that several detectors have scored."""
        return cls(
            torch.cat([part.indices for part in parts]), merge([part.scores for part in parts])
        )


def fit_and_hold_out(
    fit: FitOnSubset,
    images: Tensor,
    classes: Tensor,
    seed: int,
    can_leave_out: bool = False,
    progress: Progress = no_progress,
) -> tuple[Detector, FitReport, list[HeldOut]]:
    """Train a detector, and score images of each class that the scoring detector has not seen.

    Args:
        fit: Trains.
        images: NxCxHxW float32 in [0, 1].
        classes: N indices of their classes, from 0 up.
        seed: Decides which images are held out together.
        can_leave_out: Whether the detector can leave out images, see `FitReport.leave_out`.
        progress: Called after every group of images that was left out.

    Returns:
        The detector, the report of its training, and the held-out scores by class.
    """
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(images)))
    by_class = [shuffled[classes[shuffled] == index] for index in range(int(classes.max()) + 1)]

    def score(detector: Detector, held_out: Sequence[Tensor]) -> list[HeldOut]:
        return [
            HeldOut(indices, score_images(detector, images[indices], class_index))
            for class_index, indices in enumerate(held_out)
        ]

    fewest = min(map(len, by_class))
    if can_leave_out and fewest > 1:
        detector, report = fit(torch.arange(len(images)), '')
        return detector, report, _leave_out(detector, report, images, classes, progress)
    if fewest > MAX_FOLD_IMAGES:
        counts = [max(MIN_HELD_OUT, round(HELD_OUT_SHARE * len(indices))) for indices in by_class]
        rest = [indices[count:] for indices, count in zip(by_class, counts, strict=True)]
        detector, report = fit(torch.cat(rest).sort().values, '')
        held_out = [indices[:count] for indices, count in zip(by_class, counts, strict=True)]
        return detector, report, score(detector, held_out)
    # A single image cannot be held out: its own score is all there is.
    folds = min(FOLDS, fewest) if fewest > 1 else 0
    parts = []
    for fold in range(folds):
        chosen = [indices[i::folds] for indices in by_class for i in range(folds) if i != fold]
        detector, _ = fit(torch.cat(chosen).sort().values, FOLD_PREFIX.format(fold + 1, folds))
        parts.append(score(detector, [indices[fold::folds] for indices in by_class]))
    detector, report = fit(torch.arange(len(images)), '')
    parts = parts or [score(detector, by_class)]
    return detector, report, [HeldOut.merged(of_class) for of_class in zip(*parts, strict=True)]


def _leave_out(
    detector: Detector,
    report: FitReport,
    images: Tensor,
    classes: Tensor,
    progress: Progress,
) -> list[HeldOut]:
    """Let a detector leave out its images, group by group, and score them.

    Args:
        detector: Was trained on all images.
        report: Of its training; releases that training's data.
        images: NxCxHxW float32 in [0, 1].
        classes: N indices of their classes.
        progress: Called after every group.
    """
    assert report.leave_out is not None
    groups = report.leave_out.groups
    parts: list[list[HeldOut]] = [[] for _ in range(int(classes.max()) + 1)]
    for number, group in enumerate(groups):
        of_group = torch.tensor([*group])
        with report.leave_out.without(number):
            for class_index, of_class in enumerate(parts):
                chosen = of_group[classes[of_group] == class_index]
                if len(chosen) > 0:
                    scores = score_images(detector, images[chosen], class_index)
                    of_class.append(HeldOut(chosen, scores))
        progress('calibration', number + 1, len(groups), None)
    report.leave_out = None
    return [HeldOut.merged(of_class) for of_class in parts]


def fold_of(stage: str) -> tuple[int, int] | None:
    """Return (number, count) of the fold that a stage belongs to; None outside of folds."""
    found = re.match(FOLD_PREFIX.format(r'(\d+)', r'(\d+)'), stage)
    return (int(found[1]), int(found[2])) if found else None
