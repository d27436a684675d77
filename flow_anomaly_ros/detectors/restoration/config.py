# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the restoration detector."""

from dataclasses import dataclass

PIXELS = 'pixels'
SECOND_IMAGES = ('nearest', 'mean')
METRICS = ('euclidean', 'manhattan')


@dataclass(frozen=True)
class RestorationConfig:
    """Options of the method; paragraphs are those of US 2025/0265693 A1.

    Attributes:
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        scales: Scaling factors of the N images, largest first (paragraphs 66, 82-83).
        backbone: torchvision model that extracts the features, or `pixels` for blocks of pixels,
            which need no weights and are inverted exactly (paragraphs 85-86).
        levels: Levels of the backbone; empty: the last of stride 4, 8 and 16.
        stride: Stride of the features in px.
        components: Principal components of the features that the flow sees; even. 0: all of them
            for pixels, 64 for a backbone.
        blocks: Coupling blocks of the flow (figure 10).
        hidden: Hidden channels of the coupling networks.
        second_image: What a restored image is compared with (paragraph 72): `nearest`, restored
            for each image from the likely point of the target distribution nearest to the
            predicted one, or `mean`, restored from the target distribution's mean.
        tolerance: Standard deviations from the target's mean that are likely.
        metric: Pixel distance, `euclidean` or `manhattan` (paragraph 81).
        pixel_weight: Share of the distance between restored and second images in the score map.
        feature_weight: Share of the distance between their features. Blocks of pixels have none:
            they are the image.
        smoothing: Standard deviation in px of the Gaussian that smooths the score map.
        max_shift: Training images are also seen shifted by up to this many px.
        copies: Images and shifted copies in the training set, at least.
        flow_steps: Training steps of the flow.
        decoder_steps: Training steps of the inverse feature model; pixels need none.
        batch: Images in a step.
        learning_rate: Peak learning rate of the flow.
        decoder_learning_rate: Peak learning rate of the inverse feature model.
    """

    channels: int = 3
    scales: tuple[float, ...] = (1.0, 0.5, 0.25)
    backbone: str = PIXELS
    levels: tuple[str, ...] = ()
    stride: int = 8
    components: int = 0
    blocks: int = 2
    hidden: int = 64
    second_image: str = 'nearest'
    tolerance: float = 2.0
    metric: str = 'euclidean'
    pixel_weight: float = 1.0
    feature_weight: float = 1.0
    smoothing: float = 4.0
    max_shift: int = 4
    copies: int = 80
    flow_steps: int = 100
    decoder_steps: int = 100
    batch: int = 2
    learning_rate: float = 1e-3
    decoder_learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        _require(self.channels in (1, 3), 'channels', self.channels, '1 or 3')
        _require(
            len(self.scales) > 0
            and all(scale > 0 for scale in self.scales)
            and list(self.scales) == sorted(set(self.scales), reverse=True),
            'scales',
            list(self.scales),
            'positive and falling, such as [1.0, 0.5, 0.25]',
        )
        _require(self.stride in (2, 4, 8, 16, 32), 'stride', self.stride, 'one of 2, 4, 8, 16, 32')
        _require(
            self.components >= 0 and self.components % 2 == 0,
            'components',
            self.components,
            'even and not negative',
        )
        for name in ('blocks', 'hidden', 'flow_steps', 'decoder_steps', 'batch', 'copies'):
            _require(getattr(self, name) >= 1, name, getattr(self, name), '1 or more')
        for name in ('tolerance', 'pixel_weight', 'feature_weight', 'smoothing', 'max_shift'):
            _require(getattr(self, name) >= 0, name, getattr(self, name), '0 or more')
        has_features = self.backbone != PIXELS and self.feature_weight > 0
        _require(
            self.pixel_weight > 0 or has_features,
            'pixel_weight',
            self.pixel_weight,
            'greater than 0 where feature_weight does not count',
        )
        for name in ('learning_rate', 'decoder_learning_rate'):
            _require(getattr(self, name) > 0, name, getattr(self, name), 'greater than 0')
        for name, choices in (('second_image', SECOND_IMAGES), ('metric', METRICS)):
            _require(
                getattr(self, name) in choices,
                name,
                repr(getattr(self, name)),
                f'one of {", ".join(choices)}',
            )


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        msg = f'{name} is {value}: it must be {wanted}'
        raise ValueError(msg)
