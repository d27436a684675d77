# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""An engine whose scores are known in advance."""

import dataclasses
from dataclasses import dataclass

from flow_anomaly_ros.detectors.base import Detector, DetectorOutput
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.manifest import Manifest, PartClass
from flow_anomaly_ros.scoring.thresholds import Thresholds
import pytest
import torch


@dataclass(frozen=True)
class BrightnessConfig:
    channels: int = 3


class Brightness(Detector):
    """Scores a pixel by its brightness: what is white is a defect."""

    def forward(self, images, classes=None):
        score_map = images.mean(1)
        return DetectorOutput(score_map, score_map.amax(dim=(1, 2)))


class HalfAsBright(Brightness):
    """Takes parts for the second of two classes, whose scores are half the brightness."""

    class_count = 2

    def forward(self, images, classes):
        classes = torch.where(classes < 0, 1, classes)
        score_map = images.mean(1) / (1 + classes[:, None, None])
        return DetectorOutput(score_map, score_map.amax(dim=(1, 2)), classes)


@pytest.fixture
def make_engine():
    """Make engines that call a part a defect when a pixel is brighter than 0.8."""

    def make(detector=None, channels=3, input_size=(32, 32)):
        manifest = Manifest(
            method='brightness',
            config={'channels': channels},
            input_size=input_size,
            image_size=input_size,
            classes=(PartClass('', Thresholds(defect=0.8, uncertain=0.6, region=0.8, pixel=0.5)),),
        )
        return Engine.of(detector or Brightness(BrightnessConfig(channels)), manifest, 'cpu')

    return make


@pytest.fixture
def engine(make_engine):
    """An engine that calls a part a defect when a pixel is brighter than 0.8."""
    return make_engine()


@pytest.fixture
def class_engine(make_engine):
    """An engine of the classes `bright` and `dark`; each has limits of its own."""
    engine = make_engine(HalfAsBright(BrightnessConfig()))
    limits = engine.manifest.thresholds[0]
    dark = Thresholds(defect=0.25, uncertain=0.2, region=0.25, pixel=0.15)
    classes = (PartClass('bright', limits), PartClass('dark', dark))
    engine.manifest = dataclasses.replace(engine.manifest, classes=classes)
    return engine
