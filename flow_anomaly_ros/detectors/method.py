# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the package knows of a detection method: one record, which the registry holds."""

from collections.abc import Callable, Mapping
import dataclasses
from dataclasses import dataclass, field
import re
from typing import Any, Protocol

from flow_anomaly_ros.detectors.base import Detector, FitReport, no_progress, Progress
from flow_anomaly_ros.detectors.checkpoints import CheckpointStore, NULL_CHECKPOINTS
from torch import Tensor


class FitFunction(Protocol):
    """Trains a detector on images of good parts; every method has one."""

    def __call__(
        self,
        detector: Any,
        images: Tensor,
        seed: int = 0,
        progress: Progress = no_progress,
        checkpoints: CheckpointStore = NULL_CHECKPOINTS,
        classes: Tensor | None = None,
    ) -> FitReport:
        """Learn what good parts look like; leaves the detector in evaluation mode.

        Args:
            detector: An untrained detector of the method, its pretrained parts loaded.
            images: NxCxHxW float32 in [0, 1], images of good parts, N >= 1.
            seed: The same seed, initial weights, images, machine and number of processes and
                threads give the same detector; on a GPU nearly, since some of its operations add
                up in any order.
            progress: Called after every step of every stage.
            checkpoints: Where an interrupted training resumes; the weights become those of a
                training that was not interrupted.
            classes: N indices of the images' classes; None: all are of the first. Methods of a
                single class ignore it.

        Raises:
            Cancelled: The progress callback asked to stop.
            ValueError: The images cannot be learned from, such as a class without any; one line.
        """


def _keep(config: Any) -> Any:
    return config


def _always(_config: Any) -> bool:
    return True


def _never(_config: Any) -> bool:
    return False


@dataclass(frozen=True)
class Method:
    """A detection method.

    Attributes:
        name: Name in options and model files.
        summary: What it does, in one line.
        source: The publication that it implements.
        config: Its frozen configuration dataclass, with a field `channels` (1 or 3); with a field
            `classes` (names) it learns several classes of parts in one model.
        detector: Its detector, which is built from the configuration alone.
        fit: Trains the detector.
        presets: Options that belong together, by name; every method has `fast`.
        scoring_config: Drops what scores do not need, such as what only draws pictures: the
            detector trained with the result gives the same scores, sooner.
        takes_weights: Whether a configuration has pretrained parts.
        can_leave_out: Whether `fit` reports `FitReport.leave_out` with a configuration.
        score_spread: Standard deviation of the cube roots of good parts' image scores, relative to
            their mean, that is expected before any part was seen; see `scoring.calibration`. 0:
            unknown.
        renamed_options: Former names of options, and today's.
        renamed_values: By today's name of an option, former values and today's.
        former_defaults: By format version of model files, defaults of options that older files
            were trained with but do not name.
        renamed_tensors: Regular expressions of former tensor names in model files, and what they
            are replaced with.
    """

    name: str
    summary: str
    source: str
    config: type
    detector: type[Detector]
    fit: FitFunction
    presets: Mapping[str, Mapping[str, object]]
    scoring_config: Callable[[Any], Any] = _keep
    takes_weights: Callable[[Any], bool] = _always
    can_leave_out: Callable[[Any], bool] = _never
    score_spread: float = 0.0
    renamed_options: Mapping[str, str] = field(default_factory=dict)
    renamed_values: Mapping[str, Mapping[object, object]] = field(default_factory=dict)
    former_defaults: Mapping[int, Mapping[str, object]] = field(default_factory=dict)
    renamed_tensors: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_multiclass(self) -> bool:
        """Whether one model can learn several classes of parts."""
        return 'classes' in {option.name for option in dataclasses.fields(self.config)}

    def current_options(self, values: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
        """Replace former names and values of options by today's.

        Returns:
            The options, and a line for each that was given under a former name or value.

        Raises:
            ValueError: An option is given under both its names; one line.
        """
        options: dict[str, object] = {}
        notes = []
        for given, value in values.items():
            name = self.renamed_options.get(given, given)
            if name in options or (name != given and name in values):
                msg = f'{given} is the former name of {name}: give only {name}'
                raise ValueError(msg)
            if name != given:
                notes.append(f'option {given} is now called {name}: use {name}')
            options[name] = self._current_value(name, value, notes)
        return options, notes

    def _current_value(self, name: str, value: object, notes: list[str]) -> object:
        renamed = self.renamed_values.get(name, {})
        is_list = isinstance(value, list | tuple)
        elements = value if isinstance(value, list | tuple) else [value]
        for element in elements:
            if element in renamed:
                notes.append(f'{element} of option {name} is now called {renamed[element]}')
        current = [renamed.get(element, element) for element in elements] if renamed else elements
        return list(current) if is_list else current[0]

    def upgrade_config(
        self, config: Mapping[str, object], format_version: int
    ) -> dict[str, object]:
        """Return the configuration in a model file as today's package writes it.

        Args:
            config: Plain values, as the file has them.
            format_version: Of the file.
        """
        options, _ = self.current_options(config)
        for version, defaults in self.former_defaults.items():
            if format_version < version:
                options = {**defaults, **options}
        return options

    def upgrade_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a model file by today's names."""
        upgraded = {}
        for name, tensor in tensors.items():
            for pattern, replacement in self.renamed_tensors.items():
                name = re.sub(pattern, replacement, name)
            upgraded[name] = tensor
        return upgraded
