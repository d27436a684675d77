# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training of the restoration detector: paragraphs 104-109 of US 2025/0265693 A1."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import copy
import dataclasses
import functools
import itertools

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.data.sampling import evenly_spaced_indices
from flow_anomaly_ros.detectors.base import FitReport, LeaveOut, no_progress, Progress
from flow_anomaly_ros.detectors.checkpoints import CheckpointStore, NULL_CHECKPOINTS
from flow_anomaly_ros.detectors.restoration import prior
from flow_anomaly_ros.detectors.restoration.adjustment import scales_to_add
from flow_anomaly_ros.detectors.restoration.model import RestorationDetector
from flow_anomaly_ros.detectors.restoration.restoring_flow import RestoringFlow
from flow_anomaly_ros.detectors.restoration.restoring_flow_training import (
    make_pairs,
    train_restoring_flow,
)
from flow_anomaly_ros.detectors.training_loop import (
    observe_quantisation_ranges,
    shifted_copies,
    start_training,
    train_stage,
    TrainingContext,
)
from flow_anomaly_ros.layers.inference import optimised_for_inference
from flow_anomaly_ros.layers.resample import size_of
import torch
from torch import nn, Tensor
from torch.nn import functional

# Groups of images that are held out in turn, to see how far good parts are from one another.
MAX_GROUPS = 12
# Further restoring flows, each trained without a share of the groups, for the scores of these.
FLOW_FOLDS = 3


def fit(
    detector: RestorationDetector,
    images: Tensor,
    seed: int = 0,
    progress: Progress = no_progress,
    checkpoints: CheckpointStore = NULL_CHECKPOINTS,
    classes: Tensor | None = None,
) -> FitReport:
    """Train, and add scales until restored images are like the scaled ones; see `FitFunction`."""
    context = start_training(detector, seed, progress, checkpoints)
    config = detector.config
    if config.align != 'never':
        progress('registration', 1, 1, None)
        detector.registration.fit(images, force=config.align == 'always')
        data_parallel.broadcast(detector.registration)
        images = _registered(detector, images)
        if detector.registration.is_active:
            context.report.notes.append(
                'parts are rotated or shifted: their images are first registered to a common pose'
            )
    samples = shifted_copies(images, config.augmented_samples, config.max_shift, context.generator)
    for number in itertools.count(1):
        suffix = f' {number}' if number > 1 else ''
        observe_quantisation_ranges(
            context,
            detector,
            images,
            lambda batch: detector.raw_features(detector.scale_images(batch)),
        )
        for features in detector.features:
            features.fit_level_offsets(images)
        with optimised_for_inference(detector, 'features'):
            training = _Training(detector, samples, len(images), context, suffix)
            training.train()
            added = scales_to_add(detector, images, context.report.notes)
            if not added:
                training.fit_references()
                training.train_restoring_flow(images, seed)
                if config.can_leave_out and len(images) > 1:
                    context.report.leave_out = LeaveOut(
                        [range(group.start, group.stop) for group in training.groups],
                        training.without,
                    )
                break
        detector.add_scales(added)
    detector.eval()
    return context.report


def _registered(detector: RestorationDetector, images: Tensor) -> Tensor:
    (registered,) = data_parallel.map_sharded(
        lambda part: [detector.registration(images[part])[0]], len(images), detector.config.batch
    )
    return registered


def _groups(images: int) -> list[slice]:
    """Divide images into at most `MAX_GROUPS` groups of successive ones, which resemble most."""
    count = min(images, MAX_GROUPS)
    return [slice(images * i // count, images * (i + 1) // count) for i in range(count)]


class _Training:
    """Feature extraction, predicted distributions and their constraint, for the scales there are.

    The feature models are frozen, so the features of all images and shifted copies are computed
    once.

    Args:
        detector: The detector.
        samples: The images, followed by shifted copies of them.
        images: Number of images.
        context: The training.
        suffix: Of the stages' names: there may be several rounds of them.
    """

    def __init__(
        self,
        detector: RestorationDetector,
        samples: Tensor,
        images: int,
        context: TrainingContext,
        suffix: str,
    ) -> None:
        self.detector = detector
        self.samples = samples
        self.context = context
        self.suffix = suffix
        # Samples in the memory banks: images rather than their copies, evenly spaced where there
        # are too many; and the images that they show.
        size = detector.config.memory_bank_size
        count = max(images, min(size, len(samples)))
        self.entries = torch.tensor(evenly_spaced_indices(count, size))
        self.origin = self.entries % images
        self.groups = _groups(images)
        self.features = self._extract()
        self.priors = detector.config.of_each_scale('targets')
        # The target distributions as matrices.
        self.matrices = [
            prior.sample(name, tuple(x.shape[1:]), context.generator).to(x)
            for name, x in zip(self.priors, self.features, strict=True)
        ]
        self.is_similar = False
        # Of each scale, distances of an image of each group from the other groups, Gx1xhxw.
        self.distances: list[Tensor] = []
        # Restoring flow that has not seen a group; trained when it is first asked for.
        self.flow_without: Callable[[int], RestoringFlow] | None = None

    def train(self) -> None:
        """Train the flow, then what restores."""
        detector, config = self.detector, self.detector.config
        loss = self._likelihood if config.constraint == 'likelihood' else self._similarity
        # The identity has nothing to learn.
        if len(detector.flow.blocks) > 0:
            self._train_stage('flow', detector.flow, loss, config.flow_steps, config.learning_rate)
        if len(detector.flow.blocks) > 0 and detector.reverse_flow is not None:
            self._train_stage(
                'reverse flow',
                detector.reverse_flow,
                self._reverse,
                config.flow_steps,
                config.learning_rate,
            )
        if config.has_decoder:
            self._train_stage(
                'decoder',
                detector.decoders,
                self._decoder,
                config.decoder_steps,
                config.decoder_learning_rate,
            )

    @torch.no_grad()
    def fit_references(self) -> None:
        """Fit latent Gaussians, memory banks and distance normalisers of every scale."""
        detector, config = self.detector, self.detector.config
        if config.needs_latents:
            latents = data_parallel.map_sharded(
                lambda part: detector.flow([x[part] for x in self.features])[0],
                len(self.samples),
                config.batch,
            )
            for gaussian, of_scale in zip(detector.latent_gaussians, latents, strict=True):
                gaussian.fit(of_scale)
        compares = config.normalize_distances and config.compared_features
        if compares and len(self.groups) > 1:
            self._fit_normalizers()
        self._fill_memory_banks(self.entries)

    def train_restoring_flow(self, images: Tensor, seed: int) -> None:
        """Train the flow that restores images, if there is one.

        Args:
            images: NxCxHxW, those that the samples are copies of.
            seed: Seed of all random numbers.
        """
        if self.detector.restoring_flow is None:
            return
        # Random numbers of its own: scores stay the same if the decoder is left out.
        generator = torch.Generator().manual_seed(seed)
        context = dataclasses.replace(self.context, generator=generator)
        flow, config = self.detector.restoring_flow, self.detector.config
        pairs = make_pairs(self.detector, images, self.groups, self._hold_out, context)
        self._fill_memory_banks(self.entries)
        untrained = copy.deepcopy(flow)
        train_restoring_flow(flow, pairs, config, context)
        folds = min(FLOW_FOLDS, len(self.groups))

        @functools.cache
        def train_without(fold: int) -> RestoringFlow:
            other, stage = copy.deepcopy(untrained), f'restoring flow, fold {fold + 1} of {folds}'
            others = pairs.without(range(fold, len(self.groups), folds))
            # The same random numbers, so that flows differ by what they have seen.
            same = dataclasses.replace(context, generator=torch.Generator().manual_seed(seed))
            train_restoring_flow(other, others, config, same, stage)
            # It is no part of the detector.
            del context.report.losses[stage]
            return other.eval()

        self.flow_without = lambda group: train_without(group % folds)

    @contextlib.contextmanager
    def without(self, group: int) -> Iterator[None]:
        """Forget a group of images within a context; see `LeaveOut`.

        Registration and whitening still know them, of which an image is a small part.
        """
        detector, flow = self.detector, self.detector.restoring_flow
        self._hold_out(self.groups[group])
        self._normalize_by([index for index in range(len(self.groups)) if index != group])
        if self.flow_without is not None:
            detector.restoring_flow = self.flow_without(group)
        try:
            yield
        finally:
            detector.restoring_flow = flow
            self._normalize_by(range(len(self.groups)))
            self._fill_memory_banks(self.entries)

    def _hold_out(self, group: slice) -> None:
        """Fill the memory banks with all images but those of a group; the only one stays."""
        is_kept = (self.origin < group.start) | (self.origin >= group.stop)
        if is_kept.any():
            self._fill_memory_banks(self.entries[is_kept])

    def _fill_memory_banks(self, entries: Tensor) -> None:
        """Fill the memory banks with the samples of these indices."""
        if 'memory_bank' not in self.detector.config.reference_images:
            return
        for bank, whitening, x in zip(
            self.detector.memory_banks, self.detector.whitenings, self.features, strict=True
        ):
            bank.fit(x[entries] * whitening.unit, self.detector.config.coreset_size)

    def _fit_normalizers(self) -> None:
        """Hold out each group of images, and measure the distances of its first one."""
        detector = self.detector
        sizes = [size_of(x) for x in detector.scale_images(self.samples[:1])]

        def distances(part: slice) -> list[Tensor]:
            (group,) = self.groups[part]
            self._hold_out(group)
            of_image = [x[group.start : group.start + 1] for x in self.features]
            return detector.distances(*detector.restored_features(of_image), sizes)

        self.distances = data_parallel.map_sharded(
            distances, len(self.groups), 1, self._stage_progress('held-out distances')
        )
        self._normalize_by(range(len(self.groups)))

    def _normalize_by(self, groups: Sequence[int]) -> None:
        """Fit the distance normalisers to some of the groups; with one group they stay."""
        if len(groups) < 2:
            return
        for normalizer, distances, x in zip(
            self.detector.distance_normalizers, self.distances, self.features, strict=False
        ):
            normalizer.fit(distances[[*groups]], size_of(x))

    @torch.no_grad()
    def _extract(self) -> list[Tensor]:
        """Fit the whitening of every scale; return all whitened features, one NxKxhxw per scale."""
        detector = self.detector
        raw = data_parallel.map_sharded(
            lambda part: detector.raw_features(detector.scale_images(self.samples[part])),
            len(self.samples),
            detector.config.batch,
            self._stage_progress('features'),
        )
        whitened = []
        for whitening in detector.whitenings:
            features = raw.pop(0)
            whitening.fit(features)
            data_parallel.broadcast(whitening)
            batches = features.split(detector.config.batch)
            whitened.append(torch.cat([whitening(x) for x in batches]))
        return whitened

    def _stage_progress(self, stage: str) -> Callable[[int, int], None]:
        """Make a callback that reports the steps of a stage without a loss."""
        return lambda step, steps: self.context.progress(stage + self.suffix, step, steps, None)

    def _train_stage(
        self,
        stage: str,
        module: nn.Module,
        loss_of: Callable[[Tensor], Tensor],
        steps: int,
        rate: float,
    ) -> None:
        train_stage(
            self.context,
            stage + self.suffix,
            module,
            loss_of,
            samples=len(self.samples),
            batch=self.detector.config.batch,
            steps=steps,
            learning_rate=rate,
            is_done=lambda: self.is_similar and module is self.detector.flow,
        )

    def _own(self, chosen: Tensor) -> list[Tensor]:
        """Features of this process's shard of the chosen samples."""
        own = data_parallel.own_shard(chosen)
        return [x[own] for x in self.features]

    def _likelihood(self, chosen: Tensor) -> Tensor:
        latents, log_determinants = self.detector.flow(self._own(chosen))
        return torch.stack(
            [
                (prior.prior_nll(name, z).sum(1) - d).mean() / z.shape[1]
                for name, z, d in zip(self.priors, latents, log_determinants, strict=True)
            ]
        ).mean()

    def _similarity(self, chosen: Tensor) -> Tensor:
        latents, _ = self.detector.flow(self._own(chosen))
        errors = torch.stack(
            [
                functional.mse_loss(z, matrix.expand_as(z))
                for z, matrix in zip(latents, self.matrices, strict=True)
            ]
        )
        threshold = self.detector.config.first_threshold
        of_all = data_parallel.all_reduce_mean(errors.detach(), len(chosen))
        self.is_similar = bool((1 / (1 + of_all) > threshold).all())
        return errors.mean()

    def _reverse(self, chosen: Tensor) -> Tensor:
        wanted = self._own(chosen)
        with torch.no_grad():
            latents, _ = self.detector.flow(wanted)
        restored = self.detector.reverse(latents)
        return torch.stack(
            [functional.mse_loss(x, y) for x, y in zip(restored, wanted, strict=True)]
        ).mean()

    def _decoder(self, chosen: Tensor) -> Tensor:
        scaled = self.detector.scale_images(self.samples[data_parallel.own_shard(chosen)])
        sizes = [size_of(x) for x in scaled]
        decoded = self.detector.decode(self._own(chosen), sizes)
        return torch.stack(
            [functional.mse_loss(x, y) for x, y in zip(decoded, scaled, strict=True)]
        ).mean()
