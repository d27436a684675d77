# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of TimeNet: the flow, its reflows, then what perceives the time; algorithms 1 and 2."""

from collections.abc import Callable
import copy
import functools
from pathlib import Path
import typing

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.data import textures
from flow_anomaly_ros.data.synthetic_anomalies import blend_texture
from flow_anomaly_ros.detectors.base import FitReport, no_progress, Progress
from flow_anomaly_ros.detectors.checkpoints import CheckpointStore, NULL_CHECKPOINTS
from flow_anomaly_ros.detectors.timenet.autoencoder import Autoencoder
from flow_anomaly_ros.detectors.timenet.model import TimeNetDetector
from flow_anomaly_ros.detectors.timenet.perception import one_step
from flow_anomaly_ros.detectors.timenet.reconstruction_distance import perceptual_loss
from flow_anomaly_ros.detectors.timenet.rectified_flow import (
    curvature,
    interpolate,
    rk45,
    velocity_loss,
)
from flow_anomaly_ros.detectors.training_loop import (
    observe_quantisation_ranges,
    shifted_copies,
    start_training,
    train_stage,
    TrainingContext,
)
from flow_anomaly_ros.layers.inference import fuse_for_inference
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import nn, Tensor
from torch.nn import functional

# Images that the autoencoder is fitted to, at most.
MAX_ENCODED_IMAGES = 200
# How much the mean square error of pixels in [0, 1] counts beside the perceptual loss.
PIXEL_LOSS = 30.0
# Ways from noise to images that the straightness is measured on, and the seed of their noise.
CURVATURE_SAMPLES = 8
CURVATURE_SEED = 0


class _Pairs(typing.NamedTuple):
    """Noise, the images at the end of the ways from there, and their classes."""

    noise: Tensor
    ends: Tensor
    classes: Tensor

    def chosen(self, indices: Tensor) -> '_Pairs':
        """Some of them."""
        return _Pairs(*(x[indices] for x in self))


def fit(
    detector: TimeNetDetector,
    images: Tensor,
    seed: int = 0,
    progress: Progress = no_progress,
    checkpoints: CheckpointStore = NULL_CHECKPOINTS,
    classes: Tensor | None = None,
) -> FitReport:
    """Train what makes latents, the flow between noise and them, and what perceives the time.

    See `FitFunction`.
    """
    if classes is None:
        classes = torch.zeros(len(images), dtype=torch.long, device=images.device)
    counts = classes.bincount(minlength=detector.class_count).tolist()
    if 0 in counts:
        msg = f'there is no image of class {detector.config.classes[counts.index(0)]}'
        raise ValueError(msg)
    context = start_training(detector, seed, progress, checkpoints)
    config = detector.config
    observe_quantisation_ranges(context, detector, images, detector.backbone.extract)
    detector.backbone.fit_level_offsets(images)
    samples = shifted_copies(images, config.augmented_samples, config.max_shift, context.generator)
    of_samples = classes[torch.arange(len(samples), device=classes.device) % len(images)]
    training = _Training(detector, samples, of_samples, context)
    training.autoencoder()
    training.flow()
    training.perception()
    detector.eval()
    fit_comparison(detector, samples, of_samples, progress)
    return context.report


@torch.no_grad()
def fit_comparison(
    detector: TimeNetDetector, images: Tensor, classes: Tensor, progress: Progress = no_progress
) -> None:
    """Learn how classes are told from one another, and how much of good parts is not restored."""

    def compared(part: slice) -> list[Tensor]:
        good = images[part]
        levels = detector.backbone.extract(good)
        restored = detector.restore(good, classes[part]).images
        restored_levels = detector.backbone.extract(restored)
        return [
            detector.class_means.describe(levels),
            detector.difference.maxima(good, restored, levels, restored_levels),
        ]

    described, maxima = data_parallel.map_sharded(
        compared,
        len(images),
        detector.config.batch,
        lambda step, steps: progress('distance statistics', step, steps, None),
    )
    detector.class_means.fit(described, classes)
    detector.difference.fit(maxima)


class _Training:
    """The stages of a training that are learned, in their order."""

    def __init__(
        self,
        detector: TimeNetDetector,
        samples: Tensor,
        classes: Tensor,
        context: TrainingContext,
    ) -> None:
        self.detector = detector
        self.samples = samples
        self.classes = classes
        self.context = context

    def autoencoder(self) -> None:
        """Fit the autoencoder, if there is one."""
        space = self.detector.space
        if isinstance(space, Autoencoder):
            self.context.progress('autoencoder', 1, 1, None)
            some = self.samples[:: -(-len(self.samples) // MAX_ENCODED_IMAGES)]
            space.fit(self.detector.padded(some))
            data_parallel.broadcast(space)

    def flow(self) -> None:
        """Train the flow, equation 4, then straighten its ways, algorithm 1."""
        config = self.detector.config
        latents = self._latents()

        def drawn(chosen: Tensor) -> _Pairs:
            return _Pairs(self._noise(latents, chosen), latents[chosen], self.classes[chosen])

        self._fit_velocity('flow', len(latents), drawn, config.flow_steps)
        for number in range(1, config.reflows + 1):
            before = self._curvature(latents)
            pairs = self._pairs(f'pairs {number}', latents)
            stage = f'reflow {number}'
            self._fit_velocity(stage, len(pairs.ends), pairs.chosen, config.reflow_steps)
            self.context.report.notes.append(
                f'reflow {number}: curvature of the paths from noise to images {before:.3g} '
                f'before, {self._curvature(latents):.3g} after (0 is straight)'
            )

    def perception(self) -> None:
        """Train what perceives the time on synthetic anomalies, algorithm 2; the rest is frozen."""
        detector, config = self.detector, self.detector.config
        perception = detector.perception
        if perception is None:
            return
        frozen = detector.denoiser
        frozen.requires_grad_(requires_grad=False)
        # What is saved keeps the network as it is.
        backbone = copy.deepcopy(detector.backbone)
        fuse_for_inference(backbone)

        def loss_of(chosen: Tensor) -> Tensor:
            own = data_parallel.own_shard(torch.arange(len(chosen)))
            good, classes = self.samples[chosen][own], self.classes[chosen][own]
            with torch.no_grad():
                wanted_levels = backbone.extract(good)
                spoiled = detector.encode(self._with_synthetic_anomalies(chosen)[own])
            noise = self._noise(spoiled, chosen)[own]
            times = spoiled.new_full(spoiled.shape[:1], config.time)
            noised = interpolate(noise, spoiled, times)
            latents, _ = one_step(detector.denoiser, perception, noised, times, classes)
            restored = detector.decode(latents, size_of(good))
            error = PIXEL_LOSS * functional.mse_loss(restored, good)
            return error + perceptual_loss(backbone.extract(restored), wanted_levels)

        self._train_stage('perception', perception, loss_of, config.perception_steps)
        frozen.requires_grad_(requires_grad=True)

    def _fit_velocity(
        self, stage: str, samples: int, pairs_of: Callable[[Tensor], _Pairs], steps: int
    ) -> None:
        detector = self.detector

        def loss_of(chosen: Tensor) -> Tensor:
            times = torch.rand(len(chosen), generator=self.context.generator)
            own = data_parallel.own_shard(torch.arange(len(chosen)))
            noise, ends, classes = pairs_of(chosen).chosen(own)
            return velocity_loss(detector.velocity(classes), noise, ends, times.to(ends)[own])

        self._train_stage(stage, detector.denoiser, loss_of, steps, samples)

    def _pairs(self, stage: str, latents: Tensor) -> _Pairs:
        """Follow the flow from noise to images, in batches that the processes share."""
        context, config = self.context, self.detector.config
        batches = -(-config.pairs // config.batch)
        made: list[_Pairs] = []
        state = context.checkpoints.load(stage)
        if state:
            made = [_Pairs(*(x.to(latents.device) for x in pairs)) for pairs in state['pairs']]
            context.generator.set_state(state['generator'])
            context.progress(stage, len(made), batches, None)
        while len(made) < batches:
            begun = []
            for _ in range(min(data_parallel.world_size(), batches - len(made))):
                chosen = torch.randint(
                    0, len(latents), (config.batch,), generator=context.generator
                )
                begun.append((self._noise(latents, chosen), self.classes[chosen]))
            follow = functools.partial(self._follow, begun)
            (ends,) = data_parallel.map_sharded(follow, len(begun), 1)
            for (noise, classes), end in zip(begun, ends, strict=True):
                made.append(_Pairs(noise, end, classes))
                context.progress(stage, len(made), batches, None)
            context.checkpoints.save(
                stage,
                lambda: {
                    'pairs': [tuple(pairs) for pairs in made],
                    'generator': context.generator.get_state(),
                },
                is_over=len(made) == batches,
            )
        return _Pairs(*(torch.cat(x)[: config.pairs] for x in zip(*made, strict=True)))

    def _follow(self, begun: list[tuple[Tensor, Tensor]], part: slice) -> list[Tensor]:
        """Where one batch of noise of its classes ends."""
        noise, classes = begun[part.start]
        tolerance = self.detector.config.tolerance
        return [rk45(self.detector.velocity(classes), noise, tolerance=tolerance)[None]]

    def _curvature(self, latents: Tensor) -> float:
        generator = torch.Generator().manual_seed(CURVATURE_SEED)
        shape = (CURVATURE_SAMPLES, *latents.shape[1:])
        noise = torch.randn(shape, generator=generator).to(latents)
        classes = torch.arange(CURVATURE_SAMPLES, device=latents.device) % self.detector.class_count
        return curvature(self.detector.velocity(classes), noise)

    @torch.no_grad()
    def _latents(self) -> Tensor:
        (latents,) = data_parallel.map_sharded(
            lambda part: [self.detector.encode(self.samples[part])],
            len(self.samples),
            self.detector.config.batch,
        )
        return latents

    def _noise(self, latents: Tensor, chosen: Tensor) -> Tensor:
        """Noise for all chosen samples, the same in every process."""
        shape = (len(chosen), *latents.shape[1:])
        return torch.randn(shape, generator=self.context.generator).to(latents)

    def _with_synthetic_anomalies(self, chosen: Tensor) -> Tensor:
        """The chosen samples, some of them with synthetic anomalies, the same in every process."""
        config, generator = self.detector.config, self.context.generator
        chances = torch.rand(len(chosen), generator=generator)
        return torch.stack(
            [
                blend_texture(image, self._texture, generator)
                if chance < config.anomaly_ratio
                else image
                for image, chance in zip(self.samples[chosen], chances, strict=True)
            ]
        )

    @functools.cached_property
    def _texture(self) -> textures.TextureSource:
        folder = self.detector.config.textures
        return textures.from_folder(Path(folder).expanduser()) if folder else textures.generate

    def _train_stage(
        self,
        stage: str,
        module: nn.Module,
        loss_of: Callable[[Tensor], Tensor],
        steps: int,
        samples: int | None = None,
    ) -> None:
        config = self.detector.config
        train_stage(
            self.context,
            stage,
            module,
            loss_of,
            samples=samples or len(self.samples),
            batch=config.batch,
            steps=steps,
            learning_rate=config.learning_rate,
        )
