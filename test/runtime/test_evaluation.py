# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures over a test folder, and None for those that its images cannot give."""

from flow_anomaly_ros.data.folder import read_folder
from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.runtime.evaluation import evaluate
import numpy as np
import pytest

METRICS = ('image_auroc', 'pixel_auroc', 'aupro', 'image_f1')


def add(root, label, name, spot, masked=False):
    """Write a test image; the brightness of its spot is its score."""
    image = np.full((32, 32), 50, np.uint8)
    image[8:12, 4:8] = spot
    path = root / 'test' / label / f'{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)
    if masked:
        mask = root / 'ground_truth' / label / f'{name}_mask.png'
        mask.parent.mkdir(parents=True, exist_ok=True)
        write_image(mask, np.where(image == spot, 255, 0).astype(np.uint8))
    return path


def samples(root):
    return read_folder(root).test


def test_a_perfect_detector_has_perfect_metrics(engine, tmp_path):
    add(tmp_path, 'good', '0', 60)
    add(tmp_path, 'good', '1', 70)
    add(tmp_path, 'spot', '0', 255, masked=True)
    add(tmp_path, 'spot', '1', 250, masked=True)
    result = evaluate(engine, samples(tmp_path))
    assert [getattr(result.ranking, name) for name in METRICS] == pytest.approx([1, 1, 1, 1])
    assert [(row.label, row.verdict, row.is_correct) for row in result.rows] == [
        ('good', 'ok', True),
        ('good', 'ok', True),
        ('spot', 'defect', True),
        ('spot', 'defect', True),
    ]
    metrics = result.metrics()
    assert metrics['images'] == metrics['verdicts_right'] == 4
    assert metrics['verdicts_wrong'] == metrics['false_positive_rate'] == 0
    assert 0 < metrics['latency_ms_p50'] <= metrics['latency_ms_p95']


def test_uncertain_verdicts_are_neither_right_nor_wrong(engine, tmp_path):
    add(tmp_path, 'good', '0', 255)
    add(tmp_path, 'good', '1', 160)
    add(tmp_path, 'good', '2', 60)
    add(tmp_path, 'spot', '0', 160)
    add(tmp_path, 'spot', '1', 60)
    metrics = evaluate(engine, samples(tmp_path)).metrics()
    assert metrics['verdicts_right'] == 1
    assert metrics['verdicts_uncertain'] == 2
    assert metrics['verdicts_wrong'] == 2
    assert metrics['false_reject_rate'] == pytest.approx(2 / 3)
    assert metrics['escape_rate'] == 0.5
    assert metrics['false_positive_rate'] == pytest.approx(1 / 3)
    assert metrics['image_auroc'] == pytest.approx((0 + 0.5 + 1 + 0 + 0 + 0.5) / 6)


def test_missing_masks_leave_the_pixel_metrics_out(engine, tmp_path):
    add(tmp_path, 'good', '0', 60)
    add(tmp_path, 'spot', '0', 255)
    result = evaluate(engine, samples(tmp_path))
    assert (result.ranking.pixel_auroc, result.ranking.aupro) == (None, None)
    assert result.ranking.image_auroc == 1


def test_one_missing_mask_does_not_count_as_a_good_part(engine, tmp_path):
    add(tmp_path, 'good', '0', 60)
    add(tmp_path, 'spot', '0', 240, masked=True)
    add(tmp_path, 'spot', '1', 255)
    result = evaluate(engine, samples(tmp_path))
    assert result.ranking.pixel_auroc == pytest.approx(1)


def test_pixel_metrics_are_not_computed_without_good_pixels(engine, tmp_path):
    path = add(tmp_path, 'spot', '0', 255, masked=True)
    write_image(
        tmp_path / 'ground_truth/spot' / f'{path.stem}_mask.png', np.full((32, 32), 255, np.uint8)
    )
    result = evaluate(engine, samples(tmp_path))
    assert (result.ranking.pixel_auroc, result.ranking.aupro) == (None, None)


@pytest.mark.parametrize('label', ['good', 'spot'])
def test_one_class_has_no_image_metrics(engine, tmp_path, label):
    add(tmp_path, label, '0', 60)
    add(tmp_path, label, '1', 255)
    result = evaluate(engine, samples(tmp_path))
    assert [getattr(result.ranking, name) for name in METRICS] == [None] * 4
    assert result.metrics()['false_positive_rate'] == (0.5 if label == 'good' else None)


def test_unreadable_image_is_named_and_left_out(engine, tmp_path):
    add(tmp_path, 'good', '0', 60)
    broken = add(tmp_path, 'good', '1', 60)
    broken.write_bytes(broken.read_bytes()[:60])
    result = evaluate(engine, samples(tmp_path))
    assert len(result.rows) == 1
    (line,) = result.skipped
    assert str(broken) in line
    assert result.metrics()['skipped'] == 1


def test_evaluation_without_a_readable_image_is_refused(engine, tmp_path):
    path = add(tmp_path, 'good', '0', 60)
    path.write_text('no image')
    with pytest.raises(ValueError, match='none of the 1 test images') as caught:
        evaluate(engine, samples(tmp_path))
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_the_callback_is_called_for_every_image(engine, tmp_path):
    add(tmp_path, 'good', '0', 60)
    add(tmp_path, 'spot', '0', 255)
    shown = []
    evaluate(engine, samples(tmp_path), lambda *arguments: shown.append(arguments))
    assert [(sample.label, inspection.verdict) for sample, _, inspection in shown] == [
        ('good', 'ok'),
        ('spot', 'defect'),
    ]
    assert all(image.shape == inspection.mask.shape == (32, 32) for _, image, inspection in shown)
