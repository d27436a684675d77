# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Restored images show the part as it is, reference images as it should be."""

import dataclasses

from flow_anomaly_ros.detectors.restoration import METHOD
from flow_anomaly_ros.detectors.restoration.adjustment import draw_occlusion_pattern, similarities
from flow_anomaly_ros.detectors.restoration.config import RestorationConfig
from flow_anomaly_ros.detectors.restoration.model import min_max, RestorationDetector
from flow_anomaly_ros.detectors.restoration.training import fit
import pytest
from safetensors.torch import save_file
import torch
import torchvision

SIZE = (40, 33)  # the columns are no multiple of the stride
TINY = RestorationConfig(
    backbone=('pixels',),
    scales=(1.0, 0.5),
    stride=4,
    blocks=2,
    hidden=16,
    smoothing=1.0,
    max_shift=2,
    augmented_samples=8,
    flow_steps=25,
)
STAIN = (slice(12, 20), slice(16, 24))


def good_images(count, channels=3, seed=0):
    """Make a smooth pattern that all images share, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(*(torch.linspace(0, 5, n) for n in SIZE), indexing='ij')
    phases = torch.arange(channels)[:, None, None]
    pattern = 0.5 + 0.3 * torch.sin(rows + phases) * torch.cos(columns)
    noise = torch.randn(count, channels, *SIZE, generator=generator)
    return (pattern + 0.02 * noise).clamp(0, 1)


def stained(images):
    images = images.clone()
    images[:, :, *STAIN] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    return images


def build(**options):
    torch.manual_seed(0)
    return RestorationDetector(dataclasses.replace(TINY, **options))


@pytest.fixture(scope='module')
def detector():
    detector = build()
    fit(detector, good_images(4))
    return detector.requires_grad_(requires_grad=False)


@pytest.fixture(scope='module')
def backbone_training():
    """Return a detector with a backbone, which needs a decoder, and the report of its training."""
    detector = build(
        backbone=('squeezenet1_1',),
        levels=('features.4', 'features.7'),
        components=16,
        augmented_samples=4,
        flow_steps=5,
        decoder_steps=60,
    )
    report = fit(detector, good_images(2))
    return detector.requires_grad_(requires_grad=False), report


def variant(detector, **options):
    """Use the weights of a trained detector with other options."""
    other = RestorationDetector(dataclasses.replace(detector.config, **options))
    other.load_state_dict(detector.state_dict())
    return other.eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize('seed', range(3))
def test_with_pixel_blocks_restored_images_equal_the_scaled_images(detector, seed):
    noise = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))
    good = good_images(1, seed=seed)
    restoration = detector.restore(torch.cat([good, stained(good), noise]))
    for scaled, restored in zip(restoration.scaled, restoration.restored, strict=True):
        torch.testing.assert_close(restored, scaled, atol=1e-4, rtol=0)


def test_a_stain_scores_higher_inside_than_outside(detector):
    score_map = detector(stained(good_images(1))).score_map[0]
    inside = score_map[STAIN]
    outside = torch.ones(SIZE, dtype=torch.bool)
    outside[8:24, 12:28] = False
    assert inside.min() > score_map[outside].max()
    assert inside.mean() > 5 * score_map[outside].mean()


@pytest.mark.parametrize('kind', ['memory_bank', 'nearest'])
def test_the_reference_image_shows_the_part_without_the_stain(detector, kind):
    good = good_images(1)
    restoration = detector.restore(stained(good))
    second = restoration.reference[kind]
    for index, scaled in enumerate(detector.scale_images(good)):
        factor = SIZE[0] // scaled.shape[-2]
        inside = tuple(slice(side.start // factor, side.stop // factor) for side in STAIN)
        target, replaced, restored = (
            x[0, :, *inside] for x in (scaled, second[index], restoration.restored[index])
        )
        assert (replaced - target).abs().mean() < 0.5 * (restored - target).abs().mean()


@pytest.mark.parametrize('kind', ['memory_bank', 'nearest'])
def test_the_reference_image_leaves_good_parts_nearly_alone(detector, kind):
    restoration = detector.restore(good_images(2, seed=5))
    for scaled, second in zip(restoration.scaled, restoration.reference[kind], strict=True):
        assert (second - scaled).abs().mean() < 0.03


def test_mean_gives_every_image_the_same_reference_image(detector):
    mean = variant(detector, reference_images=('mean',), reference_weights=(1.0,))
    images = torch.cat([good_images(1), torch.rand(1, 3, *SIZE)])
    for second in mean.restore(images).reference['mean']:
        torch.testing.assert_close(second[0], second[1], atol=1e-5, rtol=0)
    for own in detector.restore(images).reference['nearest']:
        assert (own[0] - own[1]).abs().mean() > 0.01


def test_distances_to_several_reference_images_are_weighted_and_added(detector):
    image = stained(good_images(1))

    def score_map(kinds, weights):
        options = {
            'reference_images': kinds,
            'reference_weights': weights,
            'normalize_distances': False,
        }
        return variant(detector, **options)(image).score_map

    stored, nearest = (score_map((kind,), (1.0,)) for kind in ('memory_bank', 'nearest'))
    assert not torch.allclose(stored, nearest, rtol=0.01)
    both = score_map(('nearest', 'memory_bank'), (0.5, 2.0))
    torch.testing.assert_close(both, 0.5 * nearest + 2 * stored, rtol=1e-4, atol=1e-5)


def test_the_memory_bank_represents_all_kinds_of_images():
    kinds = torch.tensor([0.1] * 6 + [-0.1] * 6)[:, None, None, None]
    images = good_images(12) + kinds
    detector = build(reference_images=('memory_bank',), memory_bank_size=4, augmented_samples=2)
    fit(detector, images)
    scores = detector(good_images(2, seed=1) + kinds[[0, -1]]).image_score
    assert scores.max() < 1.5 * scores.min()


def test_default_reference_images_and_their_weights_depend_on_the_backbone():
    def shares(*kinds, **options):
        return RestorationConfig(reference_images=kinds, **options).shares

    pixels = {'backbone': ('pixels',)}
    assert shares() == {'memory_bank': 1.0, 'restored': 5.0}
    assert shares(combination='sum') == {'memory_bank': 1.0, 'restored': 4.0}
    assert shares('memory_bank', 'nearest') == {'memory_bank': 1.0, 'nearest': 0.2}
    assert shares(**pixels) == {'memory_bank': 1.0, 'nearest': 0.5}
    assert shares('nearest', **pixels) == {'nearest': 1.0}
    assert shares(reference_weights=(3.0, 4.0)) == {'memory_bank': 3.0, 'restored': 4.0}


def test_more_tolerance_means_lower_scores(detector):
    image = stained(good_images(1))
    nearest = {'reference_images': ('nearest',), 'reference_weights': (1.0,)}
    scores = [
        variant(detector, tolerance=tolerance, **nearest)(image).image_score.item()
        for tolerance in (0.0, 2.0, 8.0, 1e6)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 1e-2 * scores[0]


def test_turned_parts_are_compared_in_one_pose(host_operations):
    """A bright bar at any angle is a good part; a gap in it is a defect."""

    def bars(count, seed, gap=False):
        generator = torch.Generator().manual_seed(seed)
        axis = (torch.arange(48) + 0.5) / 24 - 1
        y, x = torch.meshgrid(axis, axis, indexing='ij')
        images = []
        for angle in 6.28 * torch.rand(count, generator=generator):
            along = angle.cos() * x + angle.sin() * y
            across = angle.cos() * y - angle.sin() * x
            bar = (across.abs() < 0.12 + 0.1 * along) & (along.abs() < 0.6)
            if gap:
                bar &= (along - 0.3).abs() > 0.08
            images.append(0.2 + 0.6 * bar)
        noise = 0.01 * torch.randn(count, 1, 48, 48, generator=generator)
        return torch.stack(images)[:, None] + noise

    margins = {}
    for align in ('never', 'auto'):
        detector = build(channels=1, align=align, flow_steps=10, augmented_samples=12)
        fit(detector, bars(8, 0))
        with torch.no_grad():
            good, defective = detector(bars(6, 1)), detector(bars(6, 2, gap=True))
        margins[align] = defective.image_score.min() / good.image_score.max()
        assert tuple(good.score_map.shape) == (6, 48, 48)
    assert bool(detector.registration.is_active)
    assert margins['auto'] > max(1, 1.2 * margins['never'])
    assert not host_operations(detector, bars(2, 3))


@pytest.mark.parametrize(('metric', 'expected'), [('euclidean', 12.5**0.5), ('manhattan', 3.5)])
def test_distances_are_per_channel(metric, expected):
    first = torch.tensor([[[[3.0]], [[-4.0]]]])
    distance = build(metric=metric).distance(first, torch.zeros(1, 2, 1, 1))
    torch.testing.assert_close(distance, torch.full((1, 1, 1, 1), expected))


def test_metrics_give_different_scores(detector):
    image = good_images(1, seed=7)
    manhattan = variant(detector, metric='manhattan')(image).score_map
    assert not torch.allclose(manhattan, detector(image).score_map, rtol=0.01)


def test_pixel_and_feature_distances_are_weighted_and_added():
    detector = build(
        backbone=('squeezenet1_1',),
        levels=('features.4',),
        scales=(1.0,),
        augmented_samples=4,
        flow_steps=5,
        decoder_steps=5,
    )
    fit(detector, good_images(2))
    image = stained(good_images(1))

    def scores(pixel_weight, feature_weight):
        weights = {'pixel_weight': pixel_weight, 'feature_weight': feature_weight}
        return variant(detector, **weights, normalize_distances=False)(image).score_map

    pixels, features = scores(1.0, 0.0), scores(0.0, 1.0)
    assert pixels.max() > 0
    assert features.max() > 0
    torch.testing.assert_close(scores(2.0, 0.5), 2 * pixels + 0.5 * features, rtol=1e-4, atol=1e-5)


def test_pixels_are_compared_as_images_whatever_the_weights(detector):
    image = stained(good_images(1))
    for weights in ({'feature_weight': 9.0}, {'pixel_weight': 9.0}, {'feature_weight': 0.0}):
        assert torch.equal(variant(detector, **weights)(image).score_map, detector(image).score_map)


def test_smoothing_spreads_scores_and_zero_does_not(detector):
    image = stained(good_images(1))
    peaks = [
        variant(detector, smoothing=smoothing)(image).score_map.max().item()
        for smoothing in (0.0, 2.0, 30.0)
    ]
    assert peaks == sorted(peaks, reverse=True)


@pytest.mark.parametrize(
    ('scales', 'sizes'),
    [
        ((1.0, 0.5, 0.25), [(40, 33), (20, 16), (10, 8)]),
        ((2.0, 1.0), [(80, 66), (40, 33)]),
        ((1.0,), [(40, 33)]),
        ((0.5,), [(20, 16)]),
        ((1.0, 0.01), [(40, 33), (4, 4)]),
    ],
)
def test_there_is_one_image_per_scale_of_its_size(scales, sizes):
    detector = build(scales=scales, flow_steps=2)
    fit(detector, good_images(2))
    with torch.no_grad():
        restoration = detector.restore(good_images(1))
        output = detector(good_images(1))
    for images in (restoration.scaled, restoration.restored, *restoration.reference.values()):
        assert [tuple(x.shape) for x in images] == [(1, 3, *size) for size in sizes]
    assert tuple(output.score_map.shape) == (1, *SIZE)
    assert output.score_map.isfinite().all()


def test_grey_images_are_restored():
    detector = build(channels=1, flow_steps=5)
    fit(detector, good_images(2, channels=1))
    image = good_images(1, channels=1)
    with torch.no_grad():
        restored = detector.restore(image).restored[0]
    torch.testing.assert_close(restored, image, atol=1e-4, rtol=0)


def test_training_lowers_the_loss():
    report = fit(build(), good_images(4))
    assert list(report.losses) == ['flow']
    assert sum(report.losses['flow'][-5:]) < sum(report.losses['flow'][:5])


def test_the_target_is_what_the_good_images_show_at_each_position():
    images = good_images(3)
    detector = build(augmented_samples=1, flow_steps=2)
    fit(detector, images)
    with torch.no_grad():
        latents, _ = detector.flow(detector.extract(detector.scale_images(images)))
    for target, z in zip(detector.latent_gaussians, latents, strict=True):
        torch.testing.assert_close(target.mean, z.mean(0), atol=1e-4, rtol=0)
        assert target.mean.std() > 0.1


def latents_of(detector, images):
    with torch.no_grad():
        return detector.flow(detector.extract(detector.scale_images(images)))[0]


def test_scales_are_fused_as_configured():
    """A change of the finest image reaches the latents of the scales that are fused with it."""

    def reached(**options):
        detector = build(scales=(1.0, 0.5, 0.25), flow_steps=10, augmented_samples=4, **options)
        fit(detector, good_images(2))
        scaled = detector.scale_images(good_images(1))
        changed = [scaled[0] + 0.2 * torch.rand(scaled[0].shape), *scaled[1:]]
        with torch.no_grad():
            pairs = zip(
                *(detector.flow(detector.extract(x))[0] for x in (scaled, changed)), strict=True
            )
            return [not torch.equal(x, y) for x, y in pairs]

    assert reached(fusion=(), blocks=1) == [True, False, False]
    # In one block the second half carries it a scale further.
    assert reached(fusion=('coupling',), blocks=1) == [True, True, True]
    assert reached(fusion=('features',), blocks=1) == [True, True, False]
    assert reached(fusion=('features',), fused_scales=(1.0,), blocks=1) == [True, True, True]
    assert reached(fusion=('features',), fused_scales=(0.5,), blocks=1) == [True, False, False]


def test_images_are_fused_before_their_features():
    image = good_images(1)
    apart = build(fusion=()).scale_images(image)
    fused = build(fusion=('images',)).scale_images(image)
    for separate_image, fused_image in zip(apart, fused, strict=True):
        assert separate_image.shape == fused_image.shape
        assert 0 <= fused_image.min() <= fused_image.max() <= 1
    # The finest image becomes smoother by the coarser one.
    assert fused[0].diff(dim=3).abs().mean() < 0.9 * apart[0].diff(dim=3).abs().mean()


def test_each_fusion_has_a_resampling_of_its_own():
    image = good_images(1)

    def fused(**options):
        detector = build(fusion=('images', 'features'), **options)
        scaled = detector.scale_images(image)
        return scaled[0], detector.raw_features(scaled)[0]

    plain = fused()
    first = fused(upsampling=('nearest', 'bilinear'))
    second = fused(upsampling=('bilinear', 'nearest'))
    assert not torch.equal(plain[0], first[0])
    assert torch.equal(plain[0], second[0])
    assert not torch.equal(plain[1], second[1])


@pytest.mark.parametrize('fusion', [('images',), ('features',), ('images', 'features', 'coupling')])
def test_a_stain_shows_with_every_fusion(fusion):
    detector = build(fusion=fusion, decoder_steps=10)
    fit(detector, good_images(4))
    with torch.no_grad():
        good, bad = (
            detector(x).score_map[0] for x in (good_images(1, seed=9), stained(good_images(1)))
        )
    assert bad[STAIN].mean() > 3 * good.mean()


def test_latents_follow_the_target_they_were_trained_towards():
    """Latents whose softplus is exponential are logistic: symmetric, but wider than a Gaussian."""
    images = good_images(4)
    shapes = {}
    for target in ('gaussian', 'exponential', 'poisson'):
        detector = build(targets=(target,), flow_steps=150, augmented_samples=4, learning_rate=1e-2)
        fit(detector, images)
        shapes[target] = torch.cat([z.flatten() for z in latents_of(detector, images)])
    assert abs(shapes['gaussian'].mean()) < 0.3
    assert shapes['exponential'].std() > 1.3 * shapes['gaussian'].std()
    assert shapes['poisson'].mean() > shapes['gaussian'].mean() + 1


def test_scales_may_have_targets_of_their_own():
    images = good_images(4)
    detector = build(
        targets=('gaussian', 'poisson'), flow_steps=150, augmented_samples=4, learning_rate=1e-2
    )
    fit(detector, images)
    first, second = latents_of(detector, images)
    assert second.mean() > first.mean() + 1


def test_training_by_similarity_stops_at_the_first_threshold():
    options = {
        'constraint': 'similarity',
        'flow_steps': 60,
        'augmented_samples': 4,
        'learning_rate': 1e-2,
    }
    whole = fit(build(**options), good_images(2)).losses['flow']
    assert len(whole) == 60
    assert sum(whole[-5:]) < 0.8 * sum(whole[:5])
    # A mean square error of 1 is a similarity of 0.5.
    wanted = 1 / (1 + whole[20])
    stopped = fit(build(**options, first_threshold=wanted * 0.9), good_images(2)).losses['flow']
    assert 1 <= len(stopped) < 60
    assert stopped == whole[: len(stopped)]


def test_a_second_flow_model_is_trained_separately():
    detector = build(reverse='trained', flow_steps=60, learning_rate=1e-2)
    losses = fit(detector, good_images(4)).losses['reverse flow']
    assert sum(losses[-5:]) < sum(losses[:5])
    with torch.no_grad():
        features = detector.extract(detector.scale_images(good_images(1)))
        latents, _ = detector.flow(features)
        learned, exact = detector.reverse(latents), detector.flow.inverse(latents)
    for wanted, approximate, inverted in zip(features, learned, exact, strict=True):
        torch.testing.assert_close(inverted, wanted, atol=1e-3, rtol=0)
        assert 1e-3 < (approximate - wanted).square().mean() < 0.5 * wanted.square().mean()


def two_networks(**options):
    return build(
        backbone=('squeezenet1_1', 'resnet18'),
        levels=(),
        components=8,
        augmented_samples=4,
        flow_steps=5,
        decoder_steps=5,
        **options,
    )


def test_every_scale_may_have_a_network_of_its_own(tmp_path):
    detector = two_networks(fusion=('coupling',))
    names = [features.name for features in detector.features_of_scales]
    assert names == ['squeezenet1_1', 'resnet18']
    for name in names:
        save_file(
            torchvision.models.get_model(name, weights=None).state_dict(),
            tmp_path / f'{name}.safetensors',
        )
    detector.load_pretrained(tmp_path)
    with pytest.raises(ValueError, match='one file for several backbones: give a folder'):
        detector.load_pretrained(tmp_path / 'resnet18.safetensors')
    fit(detector, good_images(2))
    with torch.no_grad():
        good, bad = (detector(x).score_map[0] for x in (good_images(1), stained(good_images(1))))
    assert bad[STAIN].mean() > 2 * good.mean()


@pytest.mark.parametrize(
    ('options', 'levels'),
    [
        ({}, ('layer1', 'layer2')),
        ({'strides': (8, 16)}, ('layer2', 'layer3')),
        ({'strides': (4,), 'levels': ('layer2',)}, ('layer2',)),
        (METHOD.presets['fast'], ('layer1', 'layer2', 'layer3')),
    ],
)
def test_levels_are_those_of_the_strides_unless_they_are_named(options, levels):
    detector = RestorationDetector(RestorationConfig(backbone=('resnet18',), **options))
    assert detector.features[0].levels == levels


def test_features_of_different_networks_are_not_added():
    with pytest.raises(ValueError, match='backbones with 384, 192 channels cannot be fused'):
        two_networks(fusion=('features',))


def test_scales_are_kept_where_restored_images_are_like_the_scaled_ones():
    detector = build(second_threshold=0.999)
    report = fit(detector, good_images(2))
    assert detector.config.scales == (1.0, 0.5)
    assert list(report.losses) == ['flow']
    assert report.notes[-1].endswith('; the scales are kept')


@pytest.mark.parametrize(
    ('options', 'scales'),
    [
        ({}, [(1.0,), (1.0, 0.5), (1.0, 0.5, 0.25)]),
        ({'added_scales': 2}, [(1.0,), (1.0, 0.5, 0.25)]),
        ({'added_side': 'larger', 'max_scales': 3}, [(1.0,), (2.0, 1.0), (4.0, 2.0, 1.0)]),
        ({'max_scales': 2}, [(1.0,), (1.0, 0.5)]),
    ],
)
def test_scales_are_added_until_there_are_as_many_as_allowed(options, scales):
    """A decoder of one step restores nothing well enough."""
    detector = build(
        scales=(1.0,),
        stride=2,
        fusion=('features',),
        augmented_samples=4,
        flow_steps=3,
        decoder_steps=1,
        second_threshold=0.99,
        **options,
    )
    report = fit(detector, good_images(2))
    assert detector.config.scales == scales[-1]
    assert len(report.notes) == len(scales)
    assert report.notes[-1].endswith('none can be added')
    assert [stage for stage in report.losses if stage.startswith('flow')] == [
        f'flow {number}' if number > 1 else 'flow' for number in range(1, len(scales) + 1)
    ]
    with torch.no_grad():
        assert tuple(detector(good_images(1)).score_map.shape) == (1, *SIZE)
    other = RestorationDetector(detector.config)
    other.load_state_dict(detector.state_dict())


def test_what_was_learned_is_kept_when_scales_are_added():
    detector = build(fusion=(), reverse='trained', flow_steps=10, targets=('gaussian', 'poisson'))
    fit(detector, good_images(2))
    maps = detector.extract(detector.scale_images(good_images(1)))
    with torch.no_grad():
        before = detector.flow(maps)[0], detector.reverse(maps)
        detector.add_scales((2.0,))
        more = [torch.zeros(1, maps[0].shape[1], 20, 17), *maps]
        after = detector.flow(more)[0][1:], detector.reverse(more)[1:]
    for old, new in zip(before, after, strict=True):
        for x, y in zip(old, new, strict=True):
            torch.testing.assert_close(x, y)
    assert detector.config.targets == ('gaussian', 'gaussian', 'poisson')


def test_each_added_scale_has_the_network_of_the_nearest_one():
    detector = two_networks()
    detector.add_scales((0.25, 0.125))
    names = [features.name for features in detector.features_of_scales]
    assert names == ['squeezenet1_1', 'resnet18', 'resnet18', 'resnet18']


@pytest.mark.parametrize('pattern', ['rectangle', 'ring'])
def test_the_occlusion_pattern_is_drawn_and_its_area_compared(pattern):
    dark, light = good_images(2) * 0.4, 0.6 + 0.4 * good_images(2)
    for images, level in ((dark, 1.0), (light, 0.0)):
        drawn, area = draw_occlusion_pattern(images, pattern)
        changed = (drawn != images).any(1)[0]
        assert (drawn[0, :, changed] == level).all()
        # A line around an area in the middle.
        assert area[0, 0, 20, 16] == 1
        assert not changed[20, 16]
        assert area[0, 0, :10].sum() == 0
        assert not (changed & (area[0, 0] == 0)).any()
    corner = {'rectangle': 1, 'ring': 0}[pattern]
    assert area[0, 0, 27, 23] == corner


def test_similarity_is_measured_within_the_occlusion_pattern(backbone_training):
    """The decoder knows good images, and not what is drawn on them."""
    detector, _ = backbone_training
    images = good_images(2)
    values = {
        mark: similarities(variant(detector, occlusion_pattern=mark), images)
        for mark in ('none', 'rectangle', 'ring')
    }
    scaled = detector.scale_images(images)
    with torch.no_grad():
        restored = detector.restore(images).restored
    for value, x, y in zip(values['none'], scaled, restored, strict=True):
        assert value == pytest.approx(1 / (1 + detector.distance(x, y).mean().item()), rel=1e-3)
    assert values['rectangle'][0] < values['none'][0]
    assert values['ring'][0] < values['none'][0]
    assert values['ring'] != values['rectangle']


def test_distances_count_less_where_good_parts_vary():
    """The right half of good parts is noise: what is unlike them there says less."""
    generator = torch.Generator().manual_seed(0)
    noisy = torch.ones(SIZE)
    noisy[:, :16] = 0.02

    def parts(count):
        noise = torch.rand(count, 3, *SIZE, generator=generator) - 0.5
        return (good_images(count) + 0.4 * noisy * noise).clamp(0, 1)

    train, part = parts(6), good_images(1)
    left, right = (slice(12, 20), slice(4, 12)), (slice(12, 20), slice(22, 30))
    for place in (left, right):
        part[:, :, *place] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    ratios = {}
    for relative in (True, False):
        # The image of half the size averages the noise away.
        detector = build(normalize_distances=relative, scales=(1.0,))
        fit(detector, train)
        with torch.no_grad():
            score_map = detector(part).score_map
        ratios[relative] = score_map[:, *right].mean() / score_map[:, *left].mean()
        assert score_map.min() >= 0
    assert ratios[True] < 0.9 * ratios[False]


def test_an_image_that_differs_everywhere_keeps_a_high_score(detector):
    with torch.no_grad():
        good = detector(good_images(2, seed=4)).image_score.max()
        for level in (0.0, 0.5, 1.0):
            assert detector(torch.full((1, 3, *SIZE), level)).image_score > 3 * good


@pytest.mark.parametrize('compared', ['pixels', 'features', 'images'])
def test_the_border_counts_less(detector, backbone_training, compared):
    options = {'smoothing': 0.0}
    if compared != 'pixels':
        detector, _ = backbone_training
        share = 1.0 if compared == 'images' else 0.0
        options |= {'pixel_weight': share, 'feature_weight': 1 - share}
    images = good_images(2)
    images[0, :, :4, 12:20] = 1.0
    images[1, :, 12:16, 12:20] = 1.0
    weighed, plain = (
        variant(detector, border_weight=weight, **options)(images) for weight in (0.5, 1.0)
    )
    for output in (weighed, plain):
        assert torch.equal(output.image_score, output.score_map.amax((1, 2)))
    ring = detector.config.stride
    inner = slice(None), slice(ring, -ring), slice(ring, -ring)
    assert torch.equal(weighed.score_map[inner], plain.score_map[inner])
    torch.testing.assert_close(weighed.score_map[:, :ring], plain.score_map[:, :ring] / 2)
    ratios = weighed.image_score / plain.image_score
    # The stain at the border reaches further inside with a network.
    assert ratios[0] < (0.9 if compared == 'pixels' else 0.99)
    # What a network sees of a stain in the middle reaches the border.
    assert ratios[1] == 1 if compared == 'pixels' else ratios[1] > 0.9


def test_distances_are_normalised_per_scale(detector):
    image = stained(good_images(1))
    plain, normalised = (
        detector(image),
        variant(detector, normalize_maps=True, smoothing=0.0)(image),
    )
    # Each of the two scales has values from 0 to 1.
    assert 0 <= normalised.score_map.min() < 0.2
    assert 1 < normalised.score_map.max() <= 2
    unsmoothed = variant(detector, smoothing=0.0)(image)
    torch.testing.assert_close(normalised.image_score, unsmoothed.image_score)
    assert not torch.allclose(unsmoothed.image_score, plain.image_score)


def test_scales_are_weighted_equally_by_their_positions_or_as_asked():
    detector = build(flow_steps=2, smoothing=0.0)
    fit(detector, good_images(2))
    image = stained(good_images(1))

    def scores(*weights):
        return variant(detector, scale_weights=weights)(image).score_map

    by_area = variant(detector, scale_weighting='area')(image).score_map
    torch.testing.assert_close(scores(1.0, 0.25), by_area)
    torch.testing.assert_close(scores(1.0, 1.0), scores())
    torch.testing.assert_close(scores(2.0, 2.0), 2 * scores())
    assert not torch.allclose(by_area, scores())
    torch.testing.assert_close(
        scores(1.0, 1.0) - scores(1.0, 0.5), scores(2.0, 1.0) - scores(2.0, 0.5)
    )
    with pytest.raises(ValueError, match='one number for each of the 2 scales'):
        build(scale_weights=(1.0,))
    with pytest.raises(ValueError, match='empty if second_threshold'):
        build(scale_weights=(1.0, 1.0), second_threshold=0.5)


@pytest.mark.parametrize('reverse', ['inverse', 'trained'])
def test_without_blocks_the_flow_is_the_identity(reverse):
    detector = build(blocks=0, reverse=reverse)
    report = fit(detector, good_images(2))
    assert 'flow' not in report.losses
    assert 'reverse flow' not in report.losses
    good, bad = (detector(x).image_score for x in (good_images(1), stained(good_images(1))))
    assert bad > 2 * good
    features = detector.extract(detector.scale_images(good_images(1)))
    for latents, same in zip(detector.flow.latents(features), features, strict=True):
        torch.testing.assert_close(latents, same)


def test_distances_that_are_the_same_everywhere_are_normalised_to_zero():
    maps = torch.stack([torch.full((1, 3, 4), 7.0), torch.arange(12.0).view(1, 3, 4)])
    low, high = min_max(maps)
    assert (low == 0).all()
    torch.testing.assert_close(high, torch.arange(12.0).view(1, 3, 4) / 11)


def test_distance_maps_grow_and_shrink_as_asked():
    detector = build(scales=(2.0, 1.0, 0.5), flow_steps=2, smoothing=0.0)
    fit(detector, good_images(2))
    image = stained(good_images(1))

    def peak(**options):
        return variant(detector, **options)(image).score_map.max().item()

    assert peak(map_downsampling='max') > peak() > 0
    assert peak(map_upsampling='nearest') != peak() != peak(map_upsampling='bicubic')


@pytest.mark.parametrize('count', [1, 2, 4])
def test_few_images_are_enough_to_find_a_stain(count):
    detector = build()
    fit(detector, good_images(count))
    with torch.no_grad():
        good, bad = (detector(x) for x in (good_images(3, seed=8), stained(good_images(3, seed=9))))
    assert bad.image_score.min() > 2 * good.image_score.max()
    assert bad.score_map[:, *STAIN].mean() > 5 * good.score_map.mean()


def test_the_same_seed_gives_the_same_scores():
    def scores(seed):
        detector = build(constraint='similarity', targets=('poisson', 'exponential'))
        fit(detector, good_images(3), seed=seed)
        with torch.no_grad():
            return detector(stained(good_images(1))).score_map

    assert torch.equal(scores(1), scores(1))
    assert not torch.equal(scores(1), scores(2))


def test_a_single_training_step_is_possible():
    assert len(fit(build(flow_steps=1, augmented_samples=1), good_images(1)).losses['flow']) == 1


def test_a_backbone_learns_to_decode_its_features(backbone_training):
    detector, report = backbone_training
    losses = report.losses['decoder']
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    image = good_images(1)
    restored = detector.restore(image).restored
    assert [x.shape for x in restored] == [x.shape for x in detector.scale_images(image)]
    assert (restored[0] - image).abs().mean() < (image - image.mean()).abs().mean()


def test_scores_need_no_decoder(backbone_training):
    detector, _ = backbone_training
    config = METHOD.scoring_config(detector.config)
    torch.manual_seed(0)
    other = RestorationDetector(config)
    other.features.load_state_dict(detector.features.state_dict())
    report = fit(other, good_images(2))
    assert report.losses.keys() == {'flow'}
    images = stained(good_images(2, seed=1))
    for expected, same in zip(other(images)[:2], detector(images)[:2], strict=True):
        assert torch.equal(expected, same)
    # There is nothing to make pictures with.
    assert detector.explain(images)
    assert other.explain(images) == []


@pytest.mark.parametrize('options', [{'pixel_weight': 0.5}, {'second_threshold': 0.5}])
def test_a_decoder_that_contributes_to_scores_is_always_trained(options):
    config = RestorationConfig(backbone=('squeezenet1_1',), **options)
    assert METHOD.scoring_config(config) == config
    with pytest.raises(ValueError, match='decoder_steps is 0'):
        dataclasses.replace(config, decoder_steps=0)


def test_components_limit_what_the_flow_sees():
    detector = build(components=6)
    with torch.no_grad():
        features = detector.extract(detector.scale_images(good_images(1)))
    assert {x.shape[1] for x in features} == {6}


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('channels', 2),
        ('scales', ()),
        ('scales', (0.5, 1.0)),
        ('scales', (1.0, 1.0)),
        ('scales', (1.0, 0.0)),
        ('stride', 3),
        ('stride', 1),
        ('components', 7),
        ('components', -2),
        ('blocks', -1),
        ('hidden', 0),
        ('flow_steps', 0),
        ('restoring_steps', 0),
        ('restoring_pairs', 0),
        ('restoring_width', 0),
        ('time_weight', -1.0),
        ('combination', 'product'),
        ('decoder_steps', -1),
        ('batch', 0),
        ('augmented_samples', 0),
        ('tolerance', -1.0),
        ('pixel_weight', -1.0),
        ('feature_weight', -0.1),
        ('smoothing', -1.0),
        ('smoothing', float('nan')),
        ('max_shift', -1),
        ('learning_rate', 0.0),
        ('decoder_learning_rate', -1.0),
        ('reference_images', ('median',)),
        ('reference_images', ('memory_bank', 'memory_bank')),
        ('reference_weights', (1.0, 1.0, 1.0)),
        ('reference_weights', (1.0, 0.0)),
        ('memory_bank_size', 0),
        ('align', 'sometimes'),
        ('fusion', ('pixels',)),
        ('fused_scales', (0.75,)),
        ('upsampling', ('sharp',)),
        ('downsampling', ('median',)),
        ('upsampling', ('nearest', 'bilinear')),
        ('targets', ('uniform',)),
        ('targets', ()),
        ('targets', ('gaussian', 'poisson', 'gaussian')),
        ('constraint', 'adversarial'),
        ('first_threshold', 0.0),
        ('first_threshold', 1.5),
        ('reverse', 'none'),
        ('backbone', ()),
        ('backbone', ('resnet18', 'resnet50', 'vgg16')),
        ('strides', ()),
        ('strides', (4, 0)),
        ('backbone', ('pixels', 'resnet18', 'resnet18')),
        ('second_threshold', 1.0),
        ('second_threshold', -0.1),
        ('added_scales', 0),
        ('added_side', 'both'),
        ('max_scales', 0),
        ('occlusion_pattern', 'cross'),
        ('aggregation', 2),
        ('aggregation', 0),
        ('coarse_weight', 0.0),
        ('border_weight', 0.0),
        ('map_upsampling', 'sharp'),
        ('map_downsampling', 'median'),
        ('metric', 'cosine'),
    ],
)
def test_bad_options_are_refused_in_one_line(option, value):
    with pytest.raises(ValueError, match=f'^{option} is .*: it must be ') as caught:
        RestorationConfig(**{option: value})
    assert '\n' not in str(caught.value)


def test_pixels_cannot_be_quantised():
    with pytest.raises(ValueError, match=r'^int8 is True: it must be '):
        RestorationConfig(backbone=('pixels',), int8=True)


def test_at_least_one_distance_weight_must_be_positive():
    with pytest.raises(ValueError, match='feature_weight is 0'):
        RestorationConfig(backbone=('squeezenet1_1',), pixel_weight=0.0, feature_weight=0.0)
