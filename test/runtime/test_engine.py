# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Camera images of every kind become inspections of their own size."""

import threading
from types import SimpleNamespace

from flow_anomaly_ros.detectors.base import DetectorOutput
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.runtime.engine import Criteria, Engine
from flow_anomaly_ros.scoring.thresholds import Thresholds, Verdict
import numpy as np
import pytest
from torch import nn


def part(value=100, size=(32, 32), spot=None, dtype=np.uint8):
    """An even grey image, with a 4 x 4 spot of another value in the upper left quarter."""
    image = np.full(size, value, dtype)
    if spot is not None:
        image[8:12, 4:8] = spot
    return image


def test_spot_is_found_where_it_is(engine):
    inspection = engine.inspect([part(spot=255)])[0]
    assert inspection.verdict == Verdict.DEFECT
    assert inspection.image_score == pytest.approx(1)
    (region,) = inspection.regions
    assert (region.x, region.y, region.width, region.height) == (4, 8, 4, 4)
    assert inspection.mask.dtype == np.uint8
    assert set(np.unique(inspection.mask)) == {0, 255}
    assert np.count_nonzero(inspection.mask) == 16
    assert inspection.score_map.dtype == np.float32


@pytest.mark.parametrize(('value', 'verdict'), [(100, 'ok'), (160, 'uncertain'), (255, 'defect')])
def test_the_verdict_depends_on_the_image_score(engine, value, verdict):
    assert engine.inspect([part(spot=value)])[0].verdict == verdict


def test_grey_colour_and_16_bit_images_give_the_same_scores(engine):
    grey = part(spot=255)
    colour = np.stack([grey] * 3, axis=-1)
    deep = grey.astype(np.uint16) * 257
    reference, *others = engine.inspect([grey, colour, deep, np.stack([deep] * 3, axis=-1)])
    for other in others:
        np.testing.assert_allclose(other.score_map, reference.score_map, atol=1e-6)
        assert other.verdict == reference.verdict


def test_colour_becomes_luma_for_a_grey_detector(make_engine):
    green = np.zeros((32, 32, 3), np.uint8)
    green[..., 1] = 255
    inspection = make_engine(channels=1).inspect([green])[0]
    assert inspection.image_score == pytest.approx(0.587, abs=1e-4)


def test_results_have_the_size_of_their_image(engine):
    sizes = [(32, 32), (48, 64), (100, 30)]
    inspections = engine.inspect([part(size=size, spot=255) for size in sizes])
    assert [inspection.score_map.shape for inspection in inspections] == sizes
    assert [inspection.mask.shape for inspection in inspections] == sizes
    large = engine.inspect([np.kron(part(spot=255), np.ones((4, 4), np.uint8))])[0]
    (region,) = large.regions
    assert abs(region.x - 16) <= 2
    assert abs(region.y - 32) <= 2


def test_batch_gives_what_single_images_give(model_file, good_images, defect_image):
    engine = Engine.load(model_file, 'cpu')
    images = [good_images[0], defect_image, good_images[1][:48, :56]]
    for together, image in zip(engine.inspect(images), images, strict=True):
        alone = engine.inspect([image])[0]
        np.testing.assert_allclose(together.score_map, alone.score_map, rtol=1e-3, atol=1e-4)
        assert together.image_score == pytest.approx(alone.image_score, rel=1e-3)


def test_read_only_and_strided_images_can_be_inspected(engine):
    image = part(spot=255)
    image.flags.writeable = False
    for view in (image, np.repeat(image, 2, axis=1)[:, ::2], np.flipud(np.flipud(image))):
        (region,) = engine.inspect([view])[0].regions
        assert (region.x, region.y) == (4, 8)


def test_timings_are_milliseconds_by_stage(engine, monkeypatch):
    seconds = iter((0, 1, 3, 10, 14))
    clock = SimpleNamespace(perf_counter=lambda: next(seconds))
    monkeypatch.setattr('flow_anomaly_ros.runtime.engine.time', clock)
    timings = engine.inspect([part()])[0].timings
    assert timings == {'preprocess': 1000, 'detect': 2000, 'regions': 4000}


def test_thresholds_can_be_changed_at_run_time(engine):
    assert engine.inspect([part(value=100)])[0].verdict == Verdict.OK
    strict = Criteria((Thresholds(defect=0.2, uncertain=0.1, region=0.2, pixel=0.1),))
    assert engine.inspect([part(value=100)], [strict])[0].verdict == Verdict.DEFECT


@pytest.mark.parametrize(
    ('name', 'index', 'verdict'), [('', 1, 'defect'), ('dark', 1, 'defect'), ('bright', 0, 'ok')]
)
def test_a_part_is_classified_with_the_thresholds_of_its_class(class_engine, name, index, verdict):
    criteria = Criteria(class_engine.manifest.thresholds, part_class=name)
    inspection = class_engine.inspect([part(value=50, spot=150)], [criteria])[0]
    assert inspection.thresholds is criteria.thresholds[index]
    assert inspection.part_class == class_engine.manifest.classes[index].name
    assert inspection.verdict == verdict


def test_a_loaded_engine_is_warmed_up(model_file, monkeypatch):
    inspect, inspected = Engine.inspect, []

    def noted(engine, images, *criteria):
        inspected.extend(images)
        return inspect(engine, images, *criteria)

    monkeypatch.setattr(Engine, 'inspect', noted)
    engine = Engine.load(model_file, 'cpu')
    assert inspected[0].shape[:2] == engine.manifest.image_size
    assert not inspected[0].any()


def test_each_image_of_a_batch_has_its_own_criteria(engine):
    limits = engine.manifest.thresholds
    elsewhere = np.ones((32, 32), bool)
    elsewhere[:16] = False
    results = engine.inspect([part(spot=255)] * 2, [Criteria(limits), Criteria(limits, elsewhere)])
    assert [inspection.verdict for inspection in results] == [Verdict.DEFECT, Verdict.OK]
    assert results[0].mask[:16].any()
    assert not results[1].mask.any()
    assert not results[1].regions
    assert results[1].image_score < limits[0].uncertain < results[0].image_score


def test_broken_network_never_passes_a_part(make_engine):
    class Broken(nn.Module):
        config = type('Config', (), {'channels': 3})

        def forward(self, images, classes=None):
            score_map = images.mean(1) * float('nan')
            return DetectorOutput(score_map, score_map.amax(dim=(1, 2)))

    inspection = make_engine(Broken()).inspect([part()])[0]
    assert inspection.verdict == Verdict.UNCERTAIN
    assert not inspection.mask.any()


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8), np.uint8),
    ],
)
def test_arrays_that_are_not_images_are_refused(engine, image):
    with pytest.raises(ValueError, match='an image must') as caught:
        engine.inspect([image])
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['gpu7', 'cuda:99', 'meta', ''])
def test_unusable_device_is_refused(model_file, name):
    with pytest.raises(ValueError, match=f"device '{name}' is not available") as caught:
        Engine.load(model_file, name)
    assert '\n' not in str(caught.value)


def test_inspection_continues_while_a_network_is_traced(training):
    """torch.fx changes how the modules of the whole process are called while it traces."""
    engine = Engine.of(training.detector, training.manifest, 'cpu')
    image = np.zeros((64, 64, 3), np.uint8)
    expected = engine.inspect([image])[0].image_score
    loading = threading.Thread(
        target=lambda: [Backbone('squeezenet1_1').fuse_for_inference() for _ in range(3)],
        daemon=True,
    )
    loading.start()
    count = 0
    while loading.is_alive():
        assert engine.inspect([image])[0].image_score == expected
        count += 1
    assert count > 3
