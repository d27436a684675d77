# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiles leave no trace: a tiled image is scored as if the detector had seen all of it at once."""

from dataclasses import dataclass

from flow_anomaly_ros.detectors import registry
from flow_anomaly_ros.detectors.base import Detector, DetectorOutput, FitReport
from flow_anomaly_ros.detectors.method import Method
from flow_anomaly_ros.detectors.registry import build_config, find_method
from flow_anomaly_ros.layers.resample import smooth
from flow_anomaly_ros.runtime import tiling
from flow_anomaly_ros.runtime.calibration import recalibrate, score_images
from flow_anomaly_ros.runtime.engine import Engine
from flow_anomaly_ros.runtime.tiling import (
    blending_weights,
    cut_training_tiles,
    tile_starts,
    tiled,
    TiledDetector,
)
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import numpy as np
import pytest
import torch
from torch.nn import functional

TILE = 64
# The middle of the overlap of the first two tiles, and the middle of the second.
SEAM, INSIDE = 48, 64
SIZES = [64, 72, 96, 104, 128, 136, 200, 512]


@dataclass(frozen=True)
class FakeConfig:
    channels: int = 1


class Fake(Detector):
    """Scores a pixel by its brightness, remembers what it was given, and explains it."""

    def __init__(self, config=FakeConfig()):
        super().__init__(config)
        self.batches = []

    def score(self, images):
        return images.mean(1)

    def forward(self, images, classes=None):
        self.batches.append(len(images))
        score_map = self.score(images)
        return DetectorOutput(score_map, score_map.amax(dim=(1, 2)))

    def explain(self, images, classes=None):
        return [{'half': images / 2}]


def remember(detector, images, *_, **__):
    detector.seen = images
    return FitReport()


class Local(Fake):
    """Compares a pixel with those around it; like a network it takes zeros for what it lacks."""

    def score(self, images):
        return smooth((images - functional.avg_pool2d(images, 9, 1, 4)).abs(), 1.0)[:, 0]


class BadBorder(Fake):
    """Has nothing to say but of the outermost 8 px of what it sees, and is wrong there."""

    def score(self, images):
        scores = torch.ones_like(images[:, 0])
        scores[:, 8:-8, 8:-8] = 0
        return scores


class Unseen(Fake):
    """Scores 1 what it has seen in training and 2 what it has not."""

    def score(self, images):
        distances = (images[:, None] - self.seen[None]).abs().amax(dim=(2, 3, 4))
        scores = 1 + (distances.amin(1) > 1e-6).float()
        return scores[:, None, None].expand(-1, *images.shape[-2:])


def texture(*size, seed=0):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def with_defect(images, y, x):
    images = images.clone()
    images[:, :, y - 4 : y + 4, x - 4 : x + 4] = 1
    return images


# Where tiles are and how they are blended


@pytest.mark.parametrize(
    ('size', 'tile'), [(size, tile) for tile in (64, 128) for size in SIZES if size >= tile]
)
def test_tiles_cover_an_image_and_end_at_its_border(size, tile):
    starts = tile_starts(size, tile)
    assert starts[0] == 0
    assert starts[-1] == size - tile
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= tile // 2).all()
    assert len(starts) == 1 + int(np.ceil((size - tile) / (tile / 2)))


@pytest.mark.parametrize('size', SIZES)
def test_weights_sum_to_one_and_leave_out_the_borders_of_tiles(size):
    weights = blending_weights(size, TILE)
    starts = tile_starts(size, TILE)
    assert weights.shape == (len(starts), size)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(0), torch.ones(size), atol=1e-6, rtol=0)
    for index, (row, start) in enumerate(zip(weights, starts, strict=True)):
        outside = torch.ones(size, dtype=torch.bool)
        outside[start : start + TILE] = False
        assert not row[outside].any()
        # Where another tile sees more, 3 / 16 of a tile do not count.
        if index > 0:
            assert not row[: start + 12].any()
        if index < len(starts) - 1:
            assert not row[start + TILE - 12 :].any()
    assert weights[0, 0] == weights[-1, -1] == 1
    # A linear ramp of an eighth of a tile and no jumps.
    assert weights.diff(dim=1).abs().max() <= 1 / 8 + 1e-6


@pytest.mark.parametrize('size', [(64, 64), (64, 136), (104, 72), (200, 136)])
def test_a_tiled_detector_gives_the_scores_of_whole_images(size):
    images = texture(2, 1, *size)
    output, whole = TiledDetector(Fake(), TILE)(images), Fake()(images)
    torch.testing.assert_close(output, whole, atol=1e-6, rtol=0)
    constant = TiledDetector(Fake(), TILE)(torch.full((1, 1, *size), 0.7)).score_map
    torch.testing.assert_close(constant, torch.full((1, *size), 0.7), atol=1e-6, rtol=0)


def test_a_small_receptive_field_gives_the_same_scores_in_tiles():
    images = texture(1, 1, 200, 136)
    tiled_map, whole = TiledDetector(Local(), TILE)(images).score_map, Local()(images).score_map
    torch.testing.assert_close(tiled_map, whole, atol=1e-6, rtol=0)


# Seams


def test_scores_at_tile_borders_inside_the_image_are_ignored():
    score_map = TiledDetector(BadBorder(), TILE)(texture(1, 1, 200, 264)).score_map[0]
    # It is still there at the border of the image: nobody knows better.
    assert torch.equal(score_map, BadBorder()(texture(1, 1, 200, 264)).score_map[0])
    # But where the image goes on there is none: not of a single tile.
    assert not score_map[8:-8, 8:-8].any()


def test_a_method_may_trust_the_border_of_the_image_less():
    class Doubtful(BadBorder):
        def forward(self, images):
            return DetectorOutput(self.score(images), images.amax(dim=(1, 2, 3)))

    images = texture(2, 1, 104, 200) / 2
    image_score = TiledDetector(Doubtful(), TILE)(images).image_score
    assert torch.equal(image_score, Doubtful()(images).image_score)


def test_the_image_score_is_limited_by_the_score_map():
    class Exaggerating(Fake):
        def forward(self, images):
            return DetectorOutput(self.score(images), torch.full_like(images[:, 0, 0, 0], 9))

    output = TiledDetector(Exaggerating(), TILE)(texture(2, 1, 104, 200))
    assert torch.equal(output.image_score, output.score_map.amax(dim=(1, 2)))


@pytest.mark.parametrize('place', [(SEAM, INSIDE), (INSIDE, SEAM), (SEAM, SEAM)])
def test_a_defect_on_a_seam_scores_as_inside_a_tile(place):
    detector = TiledDetector(Local(), TILE)
    images = torch.full((1, 1, 136, 136), 0.3)
    inside = detector(with_defect(images, INSIDE, INSIDE)).image_score.item()
    assert inside > 0.1
    on_seam = detector(with_defect(images, *place)).image_score.item()
    assert on_seam == pytest.approx(inside, rel=1e-4)


SHALLOW = {'backbone': 'mobilenet_v2', 'levels': ['features.3'], 'augmented_samples': 1, 'batch': 4}
SMALL = {'stride': 4, 'components': 16, 'hidden': 16, 'blocks': 1}
# What these see around a pixel ends, or nearly so, within a quarter of a tile: that is how far the
# middle of an overlap is from the border of either tile. Restoration remembers good parts at every
# position of a tile, and so scores a defect a little differently at each, seam or not.
REAL = [
    ('cainnflow', {**SHALLOW, 'blocks': 1, 'steps': 30}, 0.02),
    (
        'nf_bmr',
        {**SHALLOW, **SMALL, 'flow_hidden': 16, 'flow_steps': 30, 'mapping_steps': 60},
        0.02,
    ),
    (
        'feature_fusion',
        {
            'backbone': 'resnet18',
            'levels': ['relu', 'maxpool', 'layer1'],
            'stride': 4,
            'hidden': 16,
            'features': 8,
            'augmented_samples': 1,
            'steps': 60,
        },
        0.02,
    ),
    (
        'restoration',
        {'backbone': 'pixels', 'augmented_samples': 1, 'hidden': 16, 'flow_steps': 20},
        0.02,
    ),
    ('restoration', {**SHALLOW, **SMALL, 'restoring_steps': 2, 'restoring_pairs': 8}, 0.05),
]


def woven(size, seed, noise):
    """A pattern that repeats after 32 px, and noise."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.arange(size) * 2 * torch.pi / 32
    pattern = 0.5 + 0.15 * (2 * at).sin()[:, None] * at.cos() + 0.1 * (at[:, None] + at).sin()
    return (pattern + noise * torch.randn(3, size, size, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(('method', 'options', 'share'), REAL)
def test_a_defect_on_a_seam_scores_as_inside_a_tile_with_real_methods(method, options, share):
    torch.manual_seed(0)
    whole = find_method(method).detector(build_config(method, options))
    tiles, _ = cut_training_tiles(torch.stack([woven(320, n, 0.05) for n in (1, 2)]), 128, 0)
    find_method(method).fit(whole, tiles)
    detector = TiledDetector(whole, 128)
    clean = woven(320, 0, 0)[None]

    @torch.inference_mode()
    def score(images):
        return detector.eval()(images).image_score.item()

    # What lies around them is the same, pixel by pixel.
    seam, inside = 96, 128
    expected = score(with_defect(clean, inside, inside))
    assert expected > 1.5 * score(clean)
    for place in [(inside, seam), (seam, inside), (seam, seam)]:
        assert score(with_defect(clean, *place)) == pytest.approx(expected, rel=share)


# Memory


@pytest.mark.parametrize(('mebibytes', 'most'), [(1, 1), (4, 1), (20, 5), (512, 36)])
def test_tiles_are_scored_in_batches_that_fit_into_memory(mebibytes, most, monkeypatch):
    monkeypatch.setattr(tiling, 'BYTES_PER_PIXEL', 1024)
    images = texture(2, 1, 104, 200)
    detector = Local()
    # A tile of 64 px takes 4 MiB.
    score_map = TiledDetector(detector, TILE, mebibytes)(images).score_map
    assert sum(detector.batches) == 2 * 3 * 6
    assert max(detector.batches) == most
    torch.testing.assert_close(score_map, Local()(images).score_map, atol=1e-6, rtol=0)


# Training


@pytest.fixture
def unseen(monkeypatch):
    """A method that knows its training images."""
    method = Method('unseen', 'remembers', 'none', FakeConfig, Unseen, remember, {'fast': {}})
    monkeypatch.setitem(registry.METHODS, 'unseen', method)
    return 'unseen'


@pytest.mark.parametrize(
    ('size', 'tile'), [*((size, TILE) for size in SIZES), (200, 2 * TILE), (512, 3 * TILE)]
)
def test_tiles_count_where_they_are_blended(size, tile):
    spans = tiling._counting(size, tile)
    for weights, span in zip(blending_weights(size, tile), spans, strict=True):
        assert weights.nonzero()[:, 0].tolist() == list(range(size))[span]


def test_tiling_does_not_synchronise_with_the_host(training, host_operations):
    assert not host_operations(TiledDetector(training.detector, TILE), torch.zeros(2, 3, 96, 128))


def different_images(count):
    generator = np.random.default_rng(0)
    return [*generator.integers(0, 255, (count, *(96, 128)), np.uint8)]


def test_a_detector_is_trained_on_all_tiles_in_random_order():
    images = texture(3, 1, 96, 128)
    seen, notes = cut_training_tiles(images, TILE, 0)
    assert not notes
    expected = images.unfold(2, TILE, 32).unfold(3, TILE, 32).permute(0, 2, 3, 1, 4, 5)
    expected = expected.reshape(-1, 1, TILE, TILE)
    found = (seen[:, None] == expected).all(4).all(3).all(2)
    assert found.sum(0).tolist() == found.sum(1).tolist() == [1] * 18
    assert not torch.equal(seen, expected)
    assert torch.equal(cut_training_tiles(images, TILE, 0)[0], seen)
    assert not torch.equal(cut_training_tiles(images, TILE, 1)[0], seen)


def test_a_random_selection_of_too_many_tiles_is_reported(monkeypatch):
    monkeypatch.setattr(tiling, 'MAX_TRAINING_PIXELS', 5 * TILE**2)
    tiles, (note,) = cut_training_tiles(texture(3, 1, 96, 128), TILE, 0)
    assert 'trained on 5 of 18 tiles' in note
    assert len(tiles) == 5


@pytest.mark.parametrize(('count', 'scores'), [(10, 10), (120, 40)])
def test_images_are_held_out_with_all_their_tiles(unseen, count, scores):
    training = train(
        TrainingRequest(method=unseen, tile=TILE, device='cpu'),
        TrainingDataset(different_images(count)),
    )
    assert training.manifest.classes[0].calibration['image_scores'] == [2.0] * scores
    assert training.manifest.tile == TILE
    assert training.manifest.network_input_size == (TILE, TILE)
    assert isinstance(training.detector, Unseen)


@pytest.mark.parametrize(
    ('tile', 'reason'),
    [
        (100, 'multiple of 64'),
        (32, 'multiple of 64'),
        (0, 'multiple of 64'),
        (-64, 'multiple of 64'),
        (128, '128x96'),
    ],
)
def test_invalid_tile_sizes_are_refused(unseen, tile, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        train(
            TrainingRequest(method=unseen, tile=tile, device='cpu'),
            TrainingDataset(different_images(3)),
        )
    assert str(caught.value).startswith(f'tile is {tile} px')
    assert '\n' not in str(caught.value)


# In use


def test_inspection_and_calibration_use_the_same_tiled_scores(unseen):
    images = different_images(4)
    training = train(
        TrainingRequest(method=unseen, tile=TILE, device='cpu'), TrainingDataset(images)
    )
    engine = Engine.of(training.detector, training.manifest, 'cpu')
    other = np.full((96, 128), 200, np.uint8)
    assert [inspection.image_score for inspection in engine.inspect([images[0], other])] == [
        1.0,
        2.0,
    ]
    assert engine.inspect([other])[0].scores.shape == (96, 128)
    renewed = recalibrate(training.detector, training.manifest, [other])
    assert renewed.classes[0].calibration['images'] == 5
    batch = texture(3, 1, 96, 128)
    scores = score_images(tiled(training.detector, TILE), batch)
    assert scores.peaks.tolist() == scores.image_scores.tolist() == [2.0] * 3


def test_a_nan_score_of_one_tile_makes_the_image_score_nan():
    class Broken(Fake):
        def score(self, images):
            return images[:, 0] / 0 * 0

    output = TiledDetector(Broken(), TILE)(texture(1, 1, 96, 96))
    assert output.image_score.isnan().all()


def test_the_worst_tile_is_explained():
    images = texture(2, 1, 104, 200) / 2
    images[0, :, 100, 70] = images[1, :, 0, 199] = 1
    tile_row, own_row = TiledDetector(Fake(), TILE).explain(images)
    ((caption, tiles),) = tile_row.items()
    assert caption == 'tile at (32, 40), (136, 0)'
    assert torch.equal(tiles, torch.stack([images[0, :, 40:, 32:96], images[1, :, :64, 136:]]))
    assert torch.equal(own_row['half'], tiles / 2)
