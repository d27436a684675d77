# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a training is asked for: one request, which command, node, demo and Python callers fill."""

from collections.abc import Mapping
import dataclasses
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

from flow_anomaly_ros.detectors.method import Method
from flow_anomaly_ros.detectors.registry import build_config, DEFAULT_METHOD, find_method
from flow_anomaly_ros.runtime.export_formats import is_exported
from flow_anomaly_ros.scoring.calibration import Rates

# Options that the images decide.
DERIVED_OPTIONS = {
    'channels': 'it is derived from the images (1 for grey, 3 for colour)',
    'classes': 'each data folder is a class',
}


@dataclass(frozen=True)
class TrainingRequest:
    """A training: its images, method and options.

    Attributes:
        data: Folders of good parts, in MVTec layout or plain; several are classes of parts, named
            after their folders. Empty where images are passed to `train`.
        output: Model file to write, *.safetensors; None: the caller writes it.
        method: Name of the detection method.
        options: Options of the method, today's or former names to plain values.
        weights: Pretrained weights, a file or a folder of files named after networks; None: those
            of a pip package, or they are downloaded.
        max_images: Images of each class to train on, chosen at random; None: all.
        strict: Refuse a folder with an unreadable file instead of skipping the file.
        image_size: Shorter side in px that images are resized to.
        tile: Side in px of the tiles that images are cut into, see `runtime.tiling`; None: images
            are inspected whole.
        false_positive_rate: Share of good parts that may be called `defect`, in (0, 0.5).
        uncertain_rate: Share of good parts that may be called `uncertain` or `defect`, in (0, 0.5).
        seed: The same seed gives the same model.
        device: Name of a device, see `select_device`.
        threads: CPU threads; 0: as many as torch chooses.
        checkpoints: Folder for the state of the training, saved every minute: the same request
            resumes from there.
    """

    data: tuple[Path, ...] = ()
    output: Path | None = None
    method: str = DEFAULT_METHOD
    options: Mapping[str, object] = field(default_factory=dict)
    weights: Path | None = None
    max_images: int | None = None
    strict: bool = False
    image_size: int = 256
    tile: int | None = None
    false_positive_rate: float = 0.01
    uncertain_rate: float = 0.1
    seed: int = 0
    device: str = 'auto'
    threads: int = 0
    checkpoints: Path | None = None

    @property
    def rates(self) -> Rates:
        """Both rates.

        Raises:
            ValueError: One is out of range; one line.
        """
        return Rates(self.false_positive_rate, self.uncertain_rate)

    def find_method(self) -> Method:
        """Return the method.

        Raises:
            ConfigError: Unknown name.
        """
        return find_method(self.method)

    def build_config(self, channels: int = 3, classes: tuple[str, ...] = ()) -> Any:
        """Make the method's configuration for images of these channels and classes.

        Args:
            channels: 1 (grey) or 3 (RGB).
            classes: Names of the classes of parts; empty: one without a name.

        Raises:
            ConfigError: Unknown method or option, or a bad value; one line.
        """
        derived: dict[str, object] = {'channels': channels}
        if classes:
            derived['classes'] = classes
        return build_config(self.method, {**self.options, **derived})

    def check(self) -> list[str]:
        """Check what can be checked before images are read.

        Returns:
            A line for each option that is given under a former name.

        Raises:
            ValueError: Something cannot be used; one line.
        """
        # Raises where they are out of range.
        _ = self.rates
        for name, reason in DERIVED_OPTIONS.items():
            if name in self.options:
                msg = f'{name} cannot be set: {reason}'
                raise ValueError(msg)
        if self.output is not None and is_exported(self.output.suffix):
            msg = (
                f'{self.output} has the suffix of an exported model: train to a .safetensors file, '
                'then export it with flow-anomaly export'
            )
            raise ValueError(msg)
        config = self.build_config()
        if self.weights and not self.find_method().takes_weights(config):
            msg = (
                f'{self.weights} would not be used: name the network that it belongs to with '
                '--backbone'
            )
            raise ValueError(msg)
        _, notes = self.find_method().current_options(self.options)
        return notes

    def to_arguments(self) -> list[str]:
        """Return the arguments of `flow-anomaly train` that make this request."""
        arguments = [argument for folder in self.data for argument in ('--data', str(folder))]
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if entry.name in ('data', 'options') or value == entry.default:
                continue
            flag = f'--{entry.name.replace("_", "-")}'
            arguments += [flag] if value is True else [flag, str(value)]
        for name, value in self.options.items():
            arguments += ['--set', f'{name}={json.dumps(value)}']
        return arguments
