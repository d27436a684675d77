# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""CAINNFlow: coupling flows with block attention on the levels of a pretrained network."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast, ClassVar

from flow_anomaly_ros.detectors.base import Detector, DetectorOutput
from flow_anomaly_ros.detectors.cainnflow.attention import BlockAttention
from flow_anomaly_ros.detectors.cainnflow.config import CainnFlowConfig
from flow_anomaly_ros.layers.backbone import Backbone
from flow_anomaly_ros.layers.coupling import CouplingFlow
from flow_anomaly_ros.layers.likelihood import flow_nll, ScoreFloor
from flow_anomaly_ros.layers.resample import resize_and_smooth, size_of
from flow_anomaly_ros.layers.whitening import Whitening
import torch
from torch import nn, Tensor

# Components of whitened features within this many standard deviations are told apart in pictures.
SHOWN_RANGE = 3.0
# Standard deviation of the noise that is added to a latent to see what it restores to.
SHOWN_NOISE = 1.0
SHOWN_SEED = 0


class CouplingNetwork(nn.Module):
    """Scale and shift of one half of a map from the other: section 3.3, equations 9 to 12.

    Args:
        form: One of `config.FORMS`.
        inputs: Channels of the map.
        outputs: Channels of the output.
        hidden: Channels between two convolutions.
        reduction: See `ChannelAttention`.
    """

    def __init__(self, form: str, inputs: int, outputs: int, hidden: int, reduction: int) -> None:
        super().__init__()
        last = _convolution(hidden if form in ('CAC', 'CC') else inputs, outputs)
        # The flow starts as the identity, whatever the seed.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        parts: dict[str, list[nn.Module]] = {
            'CA': [last, BlockAttention(outputs, reduction)],
            'AC': [BlockAttention(inputs, reduction), last],
        }
        if form == 'CAC':
            first = _convolution(inputs, hidden)
            parts['CAC'] = [first, nn.ReLU(), BlockAttention(hidden, reduction), last]
        elif form == 'CC':
            parts['CC'] = [_convolution(inputs, hidden), nn.ReLU(), last]
        self.network = nn.Sequential(*parts[form])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map a list of one Bx(inputs)xHxW tensor to one of one Bx(outputs)xHxW tensor."""
        return [self.network(x) for x in maps]


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode='replicate')


class CainnFlowDetector(Detector):
    """Coupling flows with block attention on pretrained features (CAINNFlow, 2022).

    images -> levels of a frozen network -> whitening -> a flow for each level -> latents that are
    normally distributed for good parts. How unlikely its features are, is a position's score.
    """

    stages: ClassVar = {'features': ('extract',), 'flow': ('flow',)}

    def __init__(self, config: CainnFlowConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(config.backbone, config.levels, int8=config.int8)
        # A coupling block splits channels into two halves.
        components = [channels - channels % 2 for channels in self.backbone.level_channels]
        # A ModuleList does not tell type checkers what it holds.
        self.whitenings = cast(
            Sequence[Whitening],
            nn.ModuleList(
                Whitening(channels, kept)
                for channels, kept in zip(self.backbone.level_channels, components, strict=True)
            ),
        )
        self.flows = cast(
            Sequence[CouplingFlow],
            nn.ModuleList(
                CouplingFlow(count, config.blocks, self._make_network) for count in components
            ),
        )
        self.floors = cast(Sequence[ScoreFloor], nn.ModuleList(ScoreFloor() for _ in components))

    def _make_network(self, inputs: int, outputs: int) -> CouplingNetwork:
        config = self.config
        hidden = max(1, round(config.hidden_ratio * inputs))
        return CouplingNetwork(config.form, inputs, outputs, hidden, config.reduction)

    def load_pretrained(self, weights: Path | None) -> None:
        """Load the weights of the network that extracts features."""
        self.backbone.load_pretrained(weights)

    def extract(self, images: Tensor) -> list[Tensor]:
        """Whitened features of every level of BxCxHxW images, BxCixhixwi."""
        return [
            whitening(x)
            for whitening, x in zip(self.whitenings, self.backbone.extract(images), strict=True)
        ]

    def flow(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Latents of every level, and the log-determinants at each position, Bxhixwi."""
        latents, log_determinants = [], []
        for flow, x in zip(self.flows, features, strict=True):
            (latent,), (log_determinant,) = flow([x])
            latents.append(latent)
            log_determinants.append(log_determinant)
        return latents, log_determinants

    def negative_log_likelihoods(self, features: list[Tensor]) -> list[Tensor]:
        """Negative log-density of whitened features of every level, Bx1xhixwi.

        Per channel and up to a constant; any real number.
        """
        return [flow_nll(z, d) for z, d in zip(*self.flow(features), strict=True)]

    def reverse(self, latents: list[Tensor]) -> list[Tensor]:
        """Undo `flow`: latents of every level to whitened features."""
        return [flow.inverse([z])[0] for flow, z in zip(self.flows, latents, strict=True)]

    def forward(self, images: Tensor, classes: Tensor | None = None) -> DetectorOutput:
        """Score images; see `Detector.forward`."""
        size = size_of(images)
        scores = self.negative_log_likelihoods(self.extract(images))
        smoothed = [
            resize_and_smooth(floor(x), size, self.config.smoothing, offset=offset)
            for x, floor, offset in zip(
                scores, self.floors, self.backbone.level_offsets, strict=True
            )
        ]
        score_map = torch.stack(smoothed).mean(0)
        return DetectorOutput(score_map[:, 0], score_map.amax(dim=(1, 2, 3)))

    def explain(self, images: Tensor, classes: Tensor | None = None) -> list[dict[str, Tensor]]:
        """A row per level: both directions of the flow, as in section 4.6.

        The first three principal components of the features stand for red, green and blue.
        """
        generator = torch.Generator().manual_seed(SHOWN_SEED)
        features = self.extract(images)
        latents, _ = self.flow(features)
        noise = [torch.randn(z.shape, generator=generator).to(z) for z in latents]
        noisy = [z + SHOWN_NOISE * x for z, x in zip(latents, noise, strict=True)]
        columns = {
            'features': features,
            'latents': latents,
            'restored': self.reverse(latents),
            'noisy latents': noisy,
            'restored from noisy latents': self.reverse(noisy),
            'sampled latents': noise,
            'restored from samples': self.reverse(noise),
        }
        return [
            {
                caption if caption != 'features' else level: _picture(maps[index])
                for caption, maps in columns.items()
            }
            for index, level in enumerate(self.backbone.levels)
        ]


def _picture(maps: Tensor) -> Tensor:
    """Show three channels of BxCxhxw maps of unit variance, in [0, 1]."""
    shown = maps[:, :3].expand(-1, 3, -1, -1) if maps.shape[1] == 1 else maps[:, :3]
    return (0.5 + shown / (2 * SHOWN_RANGE)).clamp(0, 1)
