# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The interface every detection method implements."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from flow_anomaly_ros.detectors.checkpoints import CheckpointStore, NULL_CHECKPOINTS
from torch import nn, Tensor


class DetectorOutput(NamedTuple):
    """What a detector says of a batch of images.

    Attributes:
        score_map: BxHxW float32 at the size of the input images; larger = more anomalous.
        image_score: B float32; larger = more anomalous.
        classes: B indices of the classes that the images were taken for; None of a detector that
            knows a single one.
    """

    score_map: Tensor
    image_score: Tensor
    classes: Tensor | None = None


class Cancelled(Exception):  # noqa: N818 - a request that was honoured, not an error
    """Raised by a progress callback to stop a training between two steps."""


@dataclass
class FitReport:
    """What happened during `Detector.fit`.

    Attributes:
        losses: Loss of every step, by stage.
        notes: What was found out about the images or decided on the way, a line each.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


# Called as progress(stage, step, steps, loss) after every step, 1 <= step <= steps; the loss is
# None in stages that have none. It may raise Cancelled.
Progress = Callable[[str, int, int, float | None], None]


def no_progress(stage: str, step: int, steps: int, loss: float | None) -> None:
    """Report to nobody."""


class Detector(nn.Module, ABC):
    """A detection method: images in, scores out; it knows nothing of thresholds, ROS or files.

    A subclass is built from its configuration alone, so that a saved one can be built again before
    its weights are loaded; every tensor it needs later is a parameter or a buffer.

    Attributes:
        config: The method's frozen configuration dataclass, with a field `channels` (1 or 3).
        presets: Options that belong together, by name; every method has `fast`.
        stages: Methods of the detector, or of a module in it as `module.method`, by the name of the
            stage that they are; for measurements.
    """

    method: ClassVar[str]
    config_class: ClassVar[type]
    presets: ClassVar[Mapping[str, Mapping[str, object]]]
    stages: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def class_count(self) -> int:
        """How many classes of parts it tells apart; of more than 1 it is a `MulticlassDetector`."""
        return 1

    @classmethod
    def scoring_config(cls, config: Any) -> Any:
        """Return the configuration without what scores do not need, such as pictures do.

        The detector trained with it gives the same scores as that of `config`, sooner.
        """
        return config

    @classmethod
    def takes_weights(cls, config: Any) -> bool:
        """Whether there are pretrained parts with this configuration."""
        return False

    def load_pretrained(self, weights: Path | None) -> None:
        """Load pretrained parts before training; methods without any do nothing.

        Args:
            weights: Local weights file, or None to download.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> DetectorOutput:
        """Score images.

        Args:
            images: BxCxHxW float32 in [0, 1], C as in the configuration, H and W as in training.
        """

    def explain(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Pictures of what was compared; methods without any return none.

        Args:
            images: As of `forward`.

        Returns:
            Rows of captions and pictures, each BxCxhxw in [0, 1], of any size.
        """
        return []

    @abstractmethod
    def fit(
        self,
        images: Tensor,
        seed: int = 0,
        progress: Progress = no_progress,
        checkpoints: CheckpointStore = NULL_CHECKPOINTS,
    ) -> FitReport:
        """Learn what good parts look like.

        Args:
            images: NxCxHxW float32 in [0, 1], images of good parts, N >= 1.
            seed: The same seed, initial weights, images, machine and number of processes and
                threads give the same detector; on a GPU nearly, as some of its operations add up in
                any order.
            progress: Called after every step of every stage.
            checkpoints: Where a training that was interrupted goes on; the weights become those of
                one that was not.

        Raises:
            Cancelled: If the progress callback asked to stop.
        """


class MulticlassDetector(Detector):
    """A detector of several classes of parts; its configuration has a field `classes`, their names.

    A configuration without any stands for one class, which has no name.
    """

    @property
    def class_count(self) -> int:
        """See `Detector.class_count`."""
        return max(1, len(self.config.classes))

    @abstractmethod
    def forward(self, images: Tensor, classes: Tensor | None = None) -> DetectorOutput:
        """Score images.

        Args:
            images: As of `Detector.forward`.
            classes: B indices of their classes, below 0 where it is to be estimated; None: all are.
        """

    @abstractmethod
    def fit(
        self,
        images: Tensor,
        seed: int = 0,
        progress: Progress = no_progress,
        checkpoints: CheckpointStore = NULL_CHECKPOINTS,
        classes: Tensor | None = None,
    ) -> FitReport:
        """Learn what good parts of each class look like.

        Args:
            images: As of `Detector.fit`.
            seed: Likewise.
            progress: Likewise.
            checkpoints: Likewise.
            classes: N indices of their classes; None: all are of the first.

        Raises:
            Cancelled: As of `Detector.fit`.
            ValueError: A class has no image.
        """

    def explain(self, images: Tensor, classes: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Pictures of what was compared; see `Detector.explain`, and `forward` for the classes."""
        return []
