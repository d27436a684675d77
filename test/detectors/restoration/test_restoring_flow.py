# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The restoring flow carries features of spoiled images to those of good parts."""

import dataclasses

from flow_anomaly_ros.detectors.restoration import METHOD, restoring_flow_training, training
from flow_anomaly_ros.detectors.restoration.config import RestorationConfig
from flow_anomaly_ros.detectors.restoration.model import RestorationDetector
from flow_anomaly_ros.detectors.restoration.restoring_flow import Level, RestoringFlow
from flow_anomaly_ros.detectors.restoration.training import fit
from flow_anomaly_ros.layers.resample import resize, size_of
import pytest
import torch
from torch.nn import functional

LEVELS = (Level(3, is_fine=True), Level(5, is_fine=False), Level(2, is_fine=False))
GRID = (5, 6)
SIZES = ((10, 12), (5, 6), (3, 3))
SIZE = (64, 64)
STAIN = (slice(24, 32), slice(16, 24))


def levels_of(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        3 * torch.randn(count, level.channels, *size, generator=generator) + 1
        for level, size in zip(LEVELS, SIZES, strict=True)
    ]


def good_images(count, seed=0):
    """Make stripes, the same in all images but for a little noise."""
    generator = torch.Generator().manual_seed(seed)
    stripes = 0.5 + 0.3 * torch.sin(torch.arange(SIZE[1]) / 3)
    images = stripes.expand(count, 3, *SIZE)
    return (images + 0.02 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def stained(images):
    images = images.clone()
    images[:, :, *STAIN] = 0.9
    return images


FEW = {
    'stride': 4,
    'smoothing': 1.0,
    'augmented_samples': 8,
    'max_shift': 2,
    'restoring_pairs': 64,
    'restoring_steps': 150,
    'restoring_width': 16,
    'learning_rate': 5e-3,
}


def train_on_stripes(*kinds, images=4, **options):
    torch.manual_seed(0)
    values = FEW | {'backbone': ('pixels',), 'reference_images': kinds} | options
    detector = RestorationDetector(RestorationConfig(**values))
    fit(detector, good_images(images))
    return detector.requires_grad_(requires_grad=False)


def with_options(detector, **options):
    other = RestorationDetector(dataclasses.replace(detector.config, **options))
    other.load_state_dict(detector.state_dict())
    return other.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope='module')
def trained():
    """Return a detector and the pairs that its flow was trained on."""
    kept = []
    train = training.train_restoring_flow

    def keep(flow, pairs, *arguments):
        kept.append(pairs)
        train(flow, pairs, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, 'train_restoring_flow', keep)
        return train_on_stripes('memory_bank', 'restored'), kept[0]


@pytest.fixture
def detector(trained):
    return trained[0]


@pytest.mark.parametrize('grid', [GRID, (4, 4), (1, 1)])
def test_a_flow_restores_nothing_before_training(grid):
    flow = RestoringFlow(LEVELS, conditions=2, width=8)
    packed = flow.pack(levels_of(2), grid)
    output = flow(packed, torch.zeros(2), torch.rand(2, 2, *grid))
    assert packed.shape == (2, 4 * 3 + 5 + 2, *grid)
    assert torch.equal(output.velocity, torch.zeros_like(packed))
    assert size_of(output.time_logits) == (2 * grid[0], 2 * grid[1])


def test_channels_that_good_parts_do_not_vary_in_do_not_outweigh_the_others():
    flow = RestoringFlow(LEVELS, conditions=0, width=8)
    packed = flow.on_grid(levels_of(50), GRID)
    packed[:, 0] = 0
    flow.fit_statistics(packed)
    assert flow.deviation[0].item() == pytest.approx(0.1 * flow.deviation.median().item())
    flow.fit_statistics(torch.zeros_like(packed))
    assert flow.deviation.min() > 0


def test_packed_features_of_good_parts_are_standardised():
    flow = RestoringFlow(LEVELS, conditions=0, width=8)
    flow.fit_statistics(flow.on_grid(levels_of(50), GRID))
    packed = flow.pack(levels_of(50), GRID)
    torch.testing.assert_close(packed.mean((0, 2, 3)), torch.zeros(19), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        packed.std((0, 2, 3), correction=0), torch.ones(19), atol=1e-4, rtol=0
    )


def test_levels_on_or_finer_than_the_grid_return_unchanged():
    flow = RestoringFlow(LEVELS, conditions=0, width=8)
    levels = levels_of(3)
    flow.fit_statistics(flow.on_grid(levels, GRID))
    unpacked = flow.unpack(flow.pack(levels, GRID), SIZES)
    assert [x.shape for x in unpacked] == [x.shape for x in levels]
    for before, after in list(zip(levels, unpacked, strict=True))[:2]:
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_training_carries_features_towards_those_of_good_parts(trained):
    detector, pairs = trained
    spoiled, unspoiled = pairs.spoiled.float(), pairs.unspoiled.float()
    times = torch.zeros(len(spoiled))
    velocity = detector.restoring_flow(spoiled, times, pairs.condition).velocity
    way = unspoiled - spoiled
    assert (way - velocity).square().sum() < way.square().sum()
    # From -1 to 1.
    assert functional.cosine_similarity(velocity.flatten(), way.flatten(), 0) > 0.2


def test_a_stain_makes_the_step_of_the_flow_longer(detector):
    scaled = detector.scale_images(stained(good_images(1, seed=1)))
    levels = detector.levels(scaled)
    distances = detector.normalized_distances(levels, [size_of(x) for x in scaled])
    length, _ = detector.restoration_maps(detector.pack(levels, scaled), distances)
    inside = length[0, 0, *(slice(s.start // 4, s.stop // 4) for s in STAIN)]
    assert inside.mean() > 2 * length.median()


def test_remaining_time_tells_where_an_image_is_spoiled(detector):
    scaled = detector.scale_images(stained(good_images(1, seed=1)))
    levels = detector.levels(scaled)
    distances = detector.normalized_distances(levels, [size_of(x) for x in scaled])
    _, time = detector.restoration_maps(detector.pack(levels, scaled), distances)
    assert 0 <= time.min() <= time.max() <= 1
    # Two positions for each of the grid, which has one for every four pixels.
    inside = time[0, 0, *(slice(s.start // 2, s.stop // 2) for s in STAIN)]
    assert inside.mean() > 0.5
    assert time.mean() < 0.2


def test_the_score_map_adds_what_memory_flow_and_time_agree_on(detector):
    image = stained(good_images(1, seed=1))
    scaled = detector.scale_images(image)
    levels = detector.levels(scaled)
    distances = detector.normalized_distances(levels, [size_of(x) for x in scaled])
    length, time = detector.restoration_maps(detector.pack(levels, scaled), distances)
    # Distances of blocks of pixels have the finest grid, that of the image.
    size = size_of(image)

    def expected(time):
        memory = distances[0] + resize(distances[1], size)
        agreement = (memory * resize(length, size) * resize(time, size).sqrt()) ** (1 / 2.5)
        return memory + 5 * agreement

    plain = with_options(detector, smoothing=0.0, border_weight=1.0)
    torch.testing.assert_close(plain(image).score_map, expected(time)[:, 0])
    plain.restoration_maps = lambda *_: [length, 0 * time]
    torch.testing.assert_close(plain(image).score_map, expected(0 * time)[:, 0])


def test_overshooting_interpolation_gives_a_score(detector):
    bicubic = with_options(detector, map_upsampling='bicubic')
    length = torch.zeros(1, 1, 16, 16)
    length[..., 8, 8] = 1
    bicubic.restoration_maps = lambda *_: (length, torch.ones(1, 1, 32, 32))
    assert bicubic(stained(good_images(1))).score_map.isfinite().all()


def test_the_three_may_be_summed_as_in_files_of_format_8(detector):
    summed = with_options(detector, smoothing=0.0, combination='sum', border_weight=1.0)
    upgraded = METHOD.upgrade_config({'reference_images': ['memory_bank', 'restored']}, 8)
    assert upgraded['combination'] == summed.config.combination
    image = stained(good_images(1, seed=1))
    scaled = detector.scale_images(image)
    levels = detector.levels(scaled)
    distances = detector.normalized_distances(levels, [size_of(x) for x in scaled])
    length, time = detector.restoration_maps(detector.pack(levels, scaled), distances)
    weighted = zip((1, 1, 4, 0.5), (*distances, length, time), strict=True)
    expected = sum(weight * resize(x, size_of(image)) for weight, x in weighted)
    torch.testing.assert_close(summed(image).score_map, expected[:, 0])


@pytest.mark.parametrize('combination', ['agreement', 'sum'])
def test_the_length_is_moved_by_the_offsets_of_the_levels(combination):
    config = RestorationConfig(
        backbone=('pixels',),
        reference_images=('restored',),
        stride=4,
        smoothing=0.0,
        combination=combination,
    )
    plain = RestorationDetector(config).eval()
    for features in plain.features:
        # At a scale of 0.5 twice as many px of the image: 8 and 16.
        features.level_offsets = [(8.0, 0.0)]
    length = torch.zeros(1, 1, 16, 16)
    length[..., 8, 8] = 1
    plain.restoration_maps = lambda *_: (length, torch.ones(1, 1, 32, 32))
    score_map = plain(good_images(1)).score_map[0]
    rows, columns = (score_map > score_map.max() - 1e-4).nonzero().unbind(1)
    # The position of 4 px at 32 is drawn 12 px higher.
    assert rows.float().mean() == pytest.approx(33.5 - 12, abs=1)
    assert columns.float().mean() == pytest.approx(33.5, abs=1)


def test_without_a_memory_bank_flow_and_time_decide():
    detector = train_on_stripes('restored', smoothing=0.0, border_weight=1.0)
    image = stained(good_images(1, seed=1))
    scaled = detector.scale_images(image)
    length, time = detector.restoration_maps(detector.pack(detector.levels(scaled), scaled), [])
    agreement = (resize(length, size_of(time)) * time.sqrt()) ** (1 / 1.5)
    expected = resize(5 * agreement, size_of(image))[:, 0]
    torch.testing.assert_close(detector(image).score_map, expected)
    timeless = with_options(detector, time_weight=0.0)
    expected = resize(5 * resize(length, size_of(time)), size_of(image))[:, 0]
    torch.testing.assert_close(timeless(image).score_map, expected)


def test_a_detector_forgets_images_within_a_context():
    images = good_images(4)
    few = FEW | {'restoring_steps': 10}
    kinds = 'memory_bank', 'restored'
    detector = RestorationDetector(
        RestorationConfig(**few, backbone=('pixels',), reference_images=kinds)
    )
    report = fit(detector, images)
    assert [[*group] for group in report.leave_out.groups] == [[0], [1], [2], [3]]
    assert set(report.losses) == {'restoring flow'}
    before, flow = detector(images).image_score, detector.restoring_flow
    forgotten = []
    for index in range(4):
        with report.leave_out.without(index):
            forgotten.append(detector(images).image_score[index])
            assert detector.restoring_flow is not flow
    assert (torch.stack(forgotten) > 2 * before).all()
    torch.testing.assert_close(detector(images).image_score, before, rtol=0, atol=0)
    assert set(report.losses) == {'restoring flow'}


def test_a_flow_for_left_out_images_has_not_seen_them(trained):
    _, pairs = trained
    assert pairs.groups.tolist() == sorted(pairs.groups.tolist())
    assert pairs.groups.unique().tolist() == [0, 1, 2, 3]
    others = pairs.without([0, 3])
    assert others.groups.unique().tolist() == [1, 2]
    kept = (pairs.groups == 1) | (pairs.groups == 2)
    for name in ('spoiled', 'unspoiled', 'is_spoiled', 'condition'):
        assert torch.equal(getattr(others, name), getattr(pairs, name)[kept])


@pytest.mark.parametrize(
    ('kinds', 'images', 'can_leave_out'),
    [
        (('memory_bank', 'restored'), 2, True),
        (('memory_bank',), 2, True),
        (('memory_bank',), 1, False),
        (('restored',), 2, False),
        (('memory_bank', 'nearest'), 2, False),
    ],
)
def test_only_memory_banks_forget_images(kinds, images, can_leave_out):
    few = FEW | {'restoring_steps': 1, 'flow_steps': 1}
    config = RestorationConfig(**few, backbone=('pixels',), reference_images=kinds)
    report = fit(RestorationDetector(config), good_images(images))
    assert (report.leave_out is not None) == can_leave_out
    assert METHOD.can_leave_out(config) == (can_leave_out or images == 1)


@pytest.mark.parametrize('kinds', [('memory_bank', 'restored'), ('restored',)], ids=str)
def test_one_good_image_is_enough(kinds):
    detector = train_on_stripes(*kinds, images=1, restoring_steps=1)
    assert detector(good_images(1)).image_score.isfinite().all()


@pytest.mark.parametrize('images', [1, 7, 12, 13, 100])
def test_groups_have_every_image_once(images):
    groups = training._groups(images)
    assert len(groups) <= training.MAX_GROUPS
    assert [i for group in groups for i in range(images)[group]] == [*range(images)]


def test_spoiled_images_are_compared_with_memory_banks_of_other_images(monkeypatch):
    groups = []
    hold_out = training._Training._hold_out

    def check(self, group):
        hold_out(self, group)
        (bank,) = self.detector.memory_banks
        entries = {*bank.bank.permute(3, 0, 1, 2).flatten(1).sum(1).tolist()}
        features = self.features[0] * self.detector.whitenings[0].unit
        own = features[group].half().flatten(1).sum(1)
        images = features[: len(self.groups)].half().flatten(1).sum(1)
        held_out = [i for i, x in enumerate(images.tolist()) if x not in entries]
        assert len(own) == 1
        groups.append((group.start, held_out))

    monkeypatch.setattr(training._Training, '_hold_out', check)
    train_on_stripes('memory_bank', 'restored', scales=(1.0,), restoring_steps=1)
    # Once for the distances of good parts, once for spoiled images.
    assert groups == [(i, [i]) for i in range(4)] * 2


def test_few_pairs_are_made_of_large_images(monkeypatch):
    monkeypatch.setattr(restoring_flow_training, 'MAX_PAIRS_BYTES', 500_000)
    torch.manual_seed(0)
    config = RestorationConfig(
        backbone=('pixels',),
        reference_images=('restored',),
        stride=4,
        augmented_samples=1,
        restoring_steps=1,
    )
    report = fit(RestorationDetector(config), good_images(1))
    # 2 scales of 48 channels at 16x16 positions, in half precision.
    assert 'the restoring flow learns from 5 pairs instead of 240' in report.notes[-1]


def test_scores_need_no_decoder():
    # Fused blocks are not the image's, so it has to be learned how they are decoded.
    scores = [
        train_on_stripes(
            'memory_bank', 'restored', fusion=('features',), decoder_steps=steps, restoring_steps=2
        )(stained(good_images(1))).image_score
        for steps in (0, 3)
    ]
    assert torch.equal(*scores)


def test_a_file_of_an_earlier_version_may_have_a_flow_that_nothing_uses():
    torch.manual_seed(0)
    earlier, later = (
        RestorationDetector(RestorationConfig(backbone=('pixels',), reference_images=kinds))
        for kinds in (('memory_bank', 'nearest'), ('memory_bank',))
    )
    assert any(name.startswith('flow.') for name in earlier.state_dict())
    later.load_state_dict(earlier.state_dict())


@pytest.mark.parametrize(
    'options',
    [
        {'scales': (2.0, 1.0)},
        {'scales': (1.0, 0.5, 0.25), 'fusion': ('images', 'features', 'coupling')},
        {'normalize_maps': True, 'border_weight': 1.0, 'combination': 'sum'},
        {'normalize_distances': False, 'reverse': 'trained', 'flow_steps': 1},
        {'reference_images': ('nearest', 'restored'), 'flow_steps': 1},
        {'stride': 16},
        {'backbone': ('squeezenet1_1', 'resnet18'), 'components': 8},
    ],
    ids=str,
)
def test_the_flow_works_with_any_option(options):
    kinds = options.pop('reference_images', ('memory_bank', 'restored'))
    few = {'restoring_pairs': 4, 'restoring_steps': 1, 'decoder_steps': 1, 'images': 2}
    detector = train_on_stripes(*kinds, **few | options)
    image = stained(good_images(1))
    output = detector(image)
    assert output.score_map.shape == (1, *SIZE)
    assert output.score_map.isfinite().all()
    assert all('reference: restored' in row for row in detector.explain(image))
    again = RestorationDetector(detector.config)
    again.load_state_dict(detector.state_dict())
    assert torch.equal(again.eval()(image).score_map, output.score_map)
