# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds from further good parts."""

import dataclasses

from flow_anomaly_ros.runtime.calibration import (
    calibration_record,
    find_suspicious_images,
    MARGIN,
    recalibrate,
    score_images,
)
from flow_anomaly_ros.runtime.engine import Criteria
from flow_anomaly_ros.runtime.golden_sample import to_text
from flow_anomaly_ros.runtime.manifest import PartClass
from flow_anomaly_ros.scoring.calibration import CalibrationScores, Rates
from flow_anomaly_ros.scoring.thresholds import Thresholds, Verdict
import numpy as np
import pytest
import torch


def grey(value):
    return np.full((32, 32), value, np.uint8)


@pytest.fixture
def calibrated(make_engine):
    """An engine whose scores are brightness; ten good parts scored about 0.3."""
    engine = make_engine(channels=3)
    scores = 0.3 + 0.01 * np.linspace(-1, 1, 10)
    (part_class,) = engine.manifest.classes
    calibration = calibration_record(CalibrationScores(scores, scores, 0.3), Rates(), 0.0)
    engine.manifest = dataclasses.replace(
        engine.manifest,
        classes=(dataclasses.replace(part_class, calibration=calibration),),
        training={'images': 1, 'digests': []},
    )
    return engine


def test_an_accepted_part_is_ok_after_this_and_later_recalibrations(calibrated):
    rejected, later = grey(210), grey(100)
    assert calibrated.inspect([rejected])[0].verdict == Verdict.DEFECT
    renewed = recalibrate(calibrated.backend.detector, calibrated.manifest, [rejected], accept=True)
    assert renewed.thresholds[0].uncertain >= MARGIN * 210 / 255
    again = recalibrate(calibrated.backend.detector, renewed, [later])
    for manifest in (renewed, again):
        inspection = calibrated.inspect([rejected], [Criteria(manifest.thresholds)])[0]
        assert inspection.verdict == Verdict.OK
        assert not inspection.mask.any()
    assert again.classes[0].calibration['images'] == 12


def test_an_accepted_part_stays_ok_after_parts_with_lower_scores_are_accepted(calibrated):
    manifest = calibrated.manifest
    for values in ([210], range(60, 90)):
        images = [grey(value) for value in values]
        manifest = recalibrate(calibrated.backend.detector, manifest, images, accept=True)
    inspection = calibrated.inspect([grey(210)], [Criteria(manifest.thresholds)])[0]
    assert inspection.verdict == Verdict.OK
    assert not inspection.mask.any()


def test_parts_are_scored_with_the_given_class(class_engine):
    calibration = calibration_record(
        CalibrationScores(*2 * [np.array([0.2, 0.3, 0.4])], 0.3), Rates(), 0.0
    )
    classes = [
        dataclasses.replace(part_class, calibration=calibration)
        for part_class in class_engine.manifest.classes
    ]
    manifest = dataclasses.replace(
        class_engine.manifest, classes=tuple(classes), training={'digests': []}
    )
    renewed = recalibrate(class_engine.backend.detector, manifest, [grey(102)], part_class='dark')
    assert renewed.classes[0] == classes[0]
    scores = renewed.classes[1].calibration_scores
    assert scores == pytest.approx((0.2, 0.3, 0.4, 102 / 255 / 2))


def test_the_pixel_quantile_ignores_a_small_share_of_pixels(engine):
    images = torch.zeros(2, 3, 32, 32)
    images[..., :4, :4] = 1
    scores = score_images(engine.backend.detector, images)
    assert scores.pixel_quantile == 1
    images[..., 1:4, :4] = 0
    assert score_images(engine.backend.detector, images).pixel_quantile == 0


def test_parts_added_without_accept_may_still_be_rejected(calibrated):
    more = [grey(value) for value in range(60, 90)]
    renewed = recalibrate(calibrated.backend.detector, calibrated.manifest, [grey(210), *more])
    criteria = [Criteria(renewed.thresholds)]
    assert calibrated.inspect([grey(210)], criteria)[0].verdict == Verdict.DEFECT


def test_similar_good_parts_lower_the_threshold(calibrated):
    (part_class,) = calibrated.manifest.classes
    scores = CalibrationScores(*2 * [np.array([0.2, 0.3, 0.4])], 0.3)
    few = dataclasses.replace(part_class, calibration=calibration_record(scores, Rates(), 0.0))
    before = dataclasses.replace(calibrated.manifest, classes=(few,))
    first = recalibrate(calibrated.backend.detector, before, [grey(60)])
    more = [grey(value) for value in range(61, 91)]
    second = recalibrate(calibrated.backend.detector, first, more)
    assert second.classes[0].calibration['images'] == 34
    assert second.thresholds[0].defect < first.thresholds[0].defect


@pytest.mark.parametrize(('value', 'stays'), [(60, True), (150, False)])
def test_a_golden_sample_that_the_new_thresholds_reject_is_dropped(calibrated, value, stays):
    manifest = dataclasses.replace(calibrated.manifest, golden_sample=to_text(grey(value)))
    calibrated.manifest = manifest
    calibrated.require_golden_sample()
    renewed = recalibrate(calibrated.backend.detector, manifest, [grey(75)])
    assert renewed.golden_sample == (manifest.golden_sample if stays else '')


def test_an_image_is_added_only_once(calibrated):
    first = recalibrate(calibrated.backend.detector, calibrated.manifest, [grey(90), grey(90)])
    assert first.classes[0].calibration['images'] == 11
    assert recalibrate(calibrated.backend.detector, first, [grey(90)]) == first


def test_a_part_that_was_added_can_be_accepted_later(calibrated):
    first = recalibrate(calibrated.backend.detector, calibrated.manifest, [grey(210)])
    second = recalibrate(calibrated.backend.detector, first, [grey(210)], accept=True)
    assert second.classes[0].calibration['images'] == first.classes[0].calibration['images']
    criteria = [Criteria(second.thresholds)]
    assert calibrated.inspect([grey(210)], criteria)[0].verdict == Verdict.OK


def test_training_images_are_not_added_again(training, good_images):
    renewed = recalibrate(training.detector, training.manifest, good_images)
    assert renewed.thresholds == training.manifest.thresholds
    assert renewed.classes[0].calibration['images'] == len(good_images)


def test_mask_rule_and_area_are_kept(calibrated):
    (part_class,) = calibrated.manifest.classes
    limits = dataclasses.replace(part_class.thresholds, rule='half', min_area=7)
    changed = dataclasses.replace(part_class, thresholds=limits)
    manifest = dataclasses.replace(calibrated.manifest, classes=(changed,))
    renewed = recalibrate(calibrated.backend.detector, manifest, [grey(90)])
    assert (renewed.thresholds[0].rule, renewed.thresholds[0].min_area) == ('half', 7)


def test_a_model_without_calibration_scores_is_refused(engine):
    with pytest.raises(ValueError, match='has no calibration scores'):
        recalibrate(engine.backend.detector, engine.manifest, [grey(90)])


@pytest.mark.parametrize(('above', 'named'), [(1, 0), (2, 2), (5, 5)])
def test_a_group_of_rejected_parts_is_reported_as_suspicious(above, named):
    limits = Thresholds(defect=1.0, uncertain=0.95, region=1.0, pixel=0.5)
    known = np.linspace(0.5, 0.8, 10)
    # Each by itself is hardly farther from the others than these are from each other.
    further = np.concatenate([np.linspace(1.01, 1.2, above), np.full(6 - above, 0.7)])
    before = PartClass('', limits, {'image_scores': known.tolist()})
    scores = [*known.tolist(), *further.tolist()]
    digests = ['earlier', *(f'new {index}' for index in range(6))]
    calibration = {
        'image_scores': scores,
        'added': {'digests': digests},
        'false_positive_rate': 0.01,
        'spread': 0.0,
    }
    after = PartClass('', limits, calibration)
    found = find_suspicious_images(before, after)
    assert found == {f'new {n}': pytest.approx(further[n]) for n in range(named)}
    assert [*found.values()] == sorted(found.values(), reverse=True)
