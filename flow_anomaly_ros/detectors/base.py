# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The interface every detection method implements."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import nn, Tensor


class DetectorOutput(NamedTuple):
    """Scores of a batch of images.

    Attributes:
        score_map: BxHxW float32 at the size of the input images; larger = more anomalous.
        image_score: B float32; larger = more anomalous.
        classes: B indices of the classes that the images were assigned to; None from a detector of
            a single class.
    """

    score_map: Tensor
    image_score: Tensor
    classes: Tensor | None = None


class Cancelled(Exception):  # noqa: N818 - a fulfilled request, not an error
    """A progress callback raises it to stop a training between two steps."""


@dataclass(frozen=True)
class LeaveOut:
    """How a trained detector is made to forget images, almost as if trained without them.

    It keeps the data of the training alive.

    Attributes:
        groups: Indices of the images that are forgotten together; each image is in one group.
        without: Makes the detector forget the group of an index within a context.
    """

    groups: Sequence[Sequence[int]]
    without: Callable[[int], AbstractContextManager[None]]


@dataclass
class FitReport:
    """What happened during a training.

    Attributes:
        losses: Loss of every step, by stage.
        notes: Findings about the images and decisions of the training, a line each.
        leave_out: Makes the detector forget images; None: only another training does that.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    leave_out: LeaveOut | None = None


# Called as progress(stage, step, steps, loss) after every step, 1 <= step <= steps; the loss is
# None in stages without one. It may raise Cancelled.
Progress = Callable[[str, int, int, float | None], None]


def no_progress(stage: str, step: int, steps: int, loss: float | None) -> None:
    """Ignore progress."""


class Detector(nn.Module, ABC):
    """Images in, scores out; it only infers, and knows nothing of thresholds, ROS or files.

    A detector is built from its configuration alone, so that a saved one can be built again before
    its weights are loaded; every tensor it needs later is a parameter or a buffer. Its method's
    `fit` trains it, see `detectors.method.Method`.

    Attributes:
        config: The method's frozen configuration dataclass, with a field `channels` (1 or 3).
        stages: Names of methods, of the detector or of a submodule (`module.method`), by the name
            of the inference stage that they make up; for profiling.
    """

    stages: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def class_count(self) -> int:
        """Number of classes of parts; 1 where the configuration names none."""
        return max(1, len(getattr(self.config, 'classes', ())))

    @property
    def has_comparable_maps(self) -> bool:
        """Whether one threshold fits the score maps of all images.

        If not, as where each map is normalised, masks follow the rule `half` instead.
        """
        return True

    def load_pretrained(self, weights: Path | None) -> None:
        """Load pretrained parts before training; detectors without any do nothing.

        Args:
            weights: Local weights file; None: that of a pip package, or it is downloaded.
        """

    @abstractmethod
    def forward(self, images: Tensor, classes: Tensor | None = None) -> DetectorOutput:
        """Score images.

        Args:
            images: BxCxHxW float32 in [0, 1], C as in the configuration, H and W as in training.
            classes: B int64 indices of their classes, below 0 to have one estimated; None: all are
                estimated. Detectors of a single class ignore it.
        """

    def explain(self, images: Tensor, classes: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return pictures of what was compared; detectors without any return none.

        Args:
            images: As in `forward`.
            classes: As in `forward`.

        Returns:
            Rows of captions and pictures, each BxCxhxw in [0, 1], of any size.
        """
        return []
