# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts that lie turned or shifted, brought to one pose before they are compared."""

import math
from typing import Any, ClassVar, NamedTuple

from flow_anomaly_ros.data.sampling import evenly_spaced_indices
from flow_anomaly_ros.detectors.restoration.dynamic_buffers import DynamicBufferMixin
from flow_anomaly_ros.layers import separable
from flow_anomaly_ros.layers.precision import autocast_disabled
from flow_anomaly_ros.layers.resample import resize, size_of
from flow_anomaly_ros.layers.separable import AxisResampling
import torch
from torch import Tensor
from torch.nn import functional

# Shorter side in px of the images that are searched over all angles, and of those that the found
# pose is refined on.
COARSE, FINE = 64, 128
ANGLES = 120
# Largest shift searched, as a share of the image's shorter side.
REACH = 0.25
# A correlation that images without a part reach by chance: they are left as they lie.
CHANCE = 0.2
REFINEMENTS = 12
# Standard deviation in px of the blur of fine images, and where it is cut off.
BLUR_SIGMA, BLUR_RADIUS = 1.5, 3
# Radians, or halves of the shorter side: the change that slopes are measured over.
JACOBIAN_STEP = 2e-3
DAMPING = 1e-2
# Radians, or halves of the shorter side: the largest correction of one refinement.
MAX_STEP = 0.05
FIT_ROUNDS = 3
FIT_IMAGES = 40
# Good parts that already match their mean image this well are left as they lie.
ALIKE = 0.9
# Registered, nine of ten good parts must match it this well: otherwise it is a texture or an image
# without a part, which has no pose.
MATCHED = 0.9


class Registration(DynamicBufferMixin):
    """Rigid registration to the mean good part, learned from good parts alone.

    A pose is the angle and shift that turn positions of the registered image into positions of
    the camera's image. It is found by normalised cross-correlation with the mean part turned to
    `ANGLES` angles, at all shifts up to `REACH`, and refined by Gauss-Newton steps on the same
    measure. Until `fit` finds that good parts lie turned or shifted, images are left as they are.

    Poses are Bx3 tensors: angle in radians, shift right and down in halves of the shorter side.
    """

    # The reference has the aspect ratio of the images of the training.
    dynamic_dimensions: ClassVar = {'reference': (2, 3)}
    reference: Tensor
    is_active: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('reference', torch.zeros(1, 1, FINE, FINE))
        self.register_buffer('is_active', torch.tensor(data=False))
        self._is_active = False
        self._prepared: _Constants | None = None

    @torch.no_grad()
    def fit(self, images: Tensor, force: bool = False) -> None:
        """Learn the mean part, and whether parts have to be registered at all.

        Args:
            images: NxCxHxW images of good parts in [0, 1].
            force: Register whatever the images show.
        """
        # Evenly: images that follow each other may be of one batch of parts.
        images = images[evenly_spaced_indices(len(images), FIT_IMAGES)]
        grey = _shrink(images, FINE)
        disc = _disc(size_of(grey), images.device)
        before = _normalise(_blur(grey), disc)
        likeness = (before * _normalise(before.mean(0, keepdim=True), disc)).sum((1, 2, 3))
        self._activate(value=False)
        if len(images) < 2 or (likeness.mean() >= ALIKE and not force):
            return
        self._use(grey[:1])
        for _ in range(FIT_ROUNDS):
            poses, _ = self.find(images)
            self._use(_warp(grey, poses).mean(0, keepdim=True))
        self._centre(poses, grey)
        _, match = self.find(images)
        self._activate(force or bool(match.quantile(0.1) >= MATCHED))

    def _activate(self, value: bool) -> None:
        self.is_active.fill_(value)
        self._is_active = value

    def _centre(self, poses: Tensor, grey: Tensor) -> None:
        """Move the mean part to where parts lie on average, so that none is pushed out."""
        turns = _rotation(poses[:, 0])
        # The point of the registered image that all poses bring nearest to the image's centre.
        centre = -(turns.transpose(1, 2) @ poses[:, 1:, None]).mean(0, keepdim=True)
        poses = torch.cat([poses[:, :1], poses[:, 1:] + (turns @ centre)[..., 0]], 1)
        self._use(_warp(grey, poses).mean(0, keepdim=True))

    @torch.no_grad()
    def find(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Find the poses of BxCxHxW images.

        Returns:
            Poses, Bx3, and how well each image then matches the mean part, B, at most 1.
        """
        poses, grey, constants = self._poses(images)
        return poses, (_seen(grey, poses, constants) * constants.wanted).sum(1)

    @autocast_disabled
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Register BxCxHxW images.

        Returns:
            Images of the same size and their poses, None where nothing was to be done.
        """
        if not self._is_active:
            return images, None
        poses, _, _ = self._poses(images)
        return _warp(images, poses), poses

    def _poses(self, images: Tensor) -> tuple[Tensor, Tensor, '_Constants']:
        """Poses of images, and the fine images and the constants that they were found with."""
        constants = self._constants_for(images)
        grey = _blur(_shrink(images, FINE))
        poses, match = _search(_shrink(images, COARSE), constants)
        poses = _refine(grey, poses, constants) * (match > CHANCE)[:, None]
        return poses, grey, constants

    @autocast_disabled
    def undo(self, maps: Tensor, poses: Tensor | None) -> Tensor:
        """Bring maps of registered images, BxCxHxW, back to how the images were.

        What lay outside the registered image gets the value of its nearest border.
        """
        if poses is None:
            return maps
        inverse_shift = -_rotation(-poses[:, 0]) @ poses[:, 1:, None]
        return _warp(maps, torch.cat([-poses[:, :1], inverse_shift[..., 0]], 1))

    @autocast_disabled
    def in_view(self, maps: Tensor, poses: Tensor | None) -> Tensor:
        """Maps of registered images, BxCxHxW, with 0 where the camera saw nothing.

        There a registered image repeats the border of the camera's.
        """
        if poses is None:
            return maps
        return maps * (_grid(poses, size_of(maps)).abs().amax(-1) <= 1)[:, None]

    def _use(self, reference: Tensor) -> None:
        """Take another mean part."""
        self.reference = reference
        self._prepared = None

    def _constants_for(self, images: Tensor) -> '_Constants':
        """What does not change from image to image, computed once."""
        coarse, fine = (_shrunk(size_of(images), side) for side in (COARSE, FINE))
        known = self._prepared
        if known is None or known.sizes != (coarse, fine) or known.disc.device != images.device:
            # Training may follow, which cannot use tensors of inference mode.
            with torch.inference_mode(mode=False), torch.no_grad():
                known = self._prepared = _Constants.of(self.reference.to(images), coarse, fine)
        return known

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._prepared = None
        self._is_active = bool(self.is_active)


class _Constants(NamedTuple):
    """What is known of the mean part before an image is there.

    Attributes:
        sizes: (height, width) of the coarse and of the fine images.
        angles: Radians that the mean part was turned by, A.
        spectra: Conjugate spectra of the turned parts, real above imaginary, Ax(2h)x(w').
        forward: Matrices to a spectrum, of rows (2hxh) and of columns (wx2w').
        inverse: Matrices from a spectrum to the shifts that are searched, of rows and of columns.
        disc: Weights of the pixels of fine images.
        wanted: Normalised fine mean part, 1xP.
        solve: From differences to corrections of a pose, Px3.
    """

    sizes: tuple[tuple[int, int], tuple[int, int]]
    angles: Tensor
    spectra: Tensor
    forward: tuple[Tensor, Tensor]
    inverse: tuple[Tensor, Tensor]
    disc: Tensor
    wanted: Tensor
    solve: Tensor

    @classmethod
    def of(cls, reference: Tensor, coarse: tuple[int, int], fine: tuple[int, int]) -> '_Constants':
        angles = torch.arange(ANGLES, device=reference.device) * (2 * math.pi / ANGLES)
        turned = torch.stack([-angles, 0 * angles, 0 * angles], 1)
        templates = _normalise(
            _warp(resize(reference, coarse).expand(ANGLES, -1, -1, -1), turned),
            _disc(coarse, reference.device),
        )
        spectra = torch.fft.rfft2(templates[:, 0]).conj()
        disc = _disc(fine, reference.device)
        mean_part = _blur(resize(reference, fine))
        steps = JACOBIAN_STEP * torch.cat([torch.eye(3), -torch.eye(3)]).to(reference)
        probed = _normalise(_warp(mean_part.expand(6, -1, -1, -1), steps), disc).flatten(1)
        jacobian = (probed[:3] - probed[3:]).T / (2 * JACOBIAN_STEP)
        square = jacobian.T @ jacobian
        # A part without structure has no slope: the small constant keeps images where they are.
        square = square + torch.diag(DAMPING * square.diagonal() + 1e-6)
        forward, inverse = _fourier_matrices(coarse, round(REACH * min(coarse)))
        return cls(
            sizes=(coarse, fine),
            angles=angles,
            spectra=torch.cat([spectra.real, spectra.imag], 1),
            forward=(forward[0].to(reference), forward[1].to(reference)),
            inverse=(inverse[0].to(reference), inverse[1].to(reference)),
            disc=disc,
            wanted=_normalise(mean_part, disc).flatten(1),
            solve=torch.linalg.solve(square, jacobian.T).T,
        )


def _fourier_matrices(
    size: tuple[int, int], reach: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The Fourier transform of real images as matrix products, which every runtime has.

    Complex numbers are pairs of rows, real above imaginary, or of columns, real beside imaginary.

    Returns:
        Matrices of rows and of columns to a spectrum, and back to shifts from -reach to reach.
    """
    height, width = size
    frequencies = torch.arange(width // 2 + 1, dtype=torch.float64)
    shifts = torch.arange(-reach, reach + 1, dtype=torch.float64)

    def waves(positions: Tensor, others: Tensor, period: int) -> tuple[Tensor, Tensor]:
        phase = 2 * math.pi / period * positions[:, None] * others
        return phase.cos(), phase.sin()

    rows, columns = (torch.arange(n, dtype=torch.float64) for n in size)
    cos, sin = waves(rows, rows, height)
    to_rows = torch.cat([cos, -sin])
    cos, sin = waves(columns, frequencies, width)
    to_columns = torch.cat([cos, -sin], 1)
    cos, sin = waves(shifts, rows, height)
    from_rows = torch.cat([torch.cat([cos, -sin], 1), torch.cat([sin, cos], 1)]) / height
    cos, sin = waves(frequencies, shifts, width)
    # All but the lowest frequency, and the highest of an even number, stand for two.
    twice = torch.full((len(frequencies), 1), 2.0 / width, dtype=torch.float64)
    twice[0] = 1 / width
    if width % 2 == 0:
        twice[-1] = 1 / width
    from_columns = torch.cat([twice * cos, -twice * sin])
    return (to_rows, to_columns), (from_rows, from_columns)


def _search(grey: Tensor, constants: _Constants) -> tuple[Tensor, Tensor]:
    """Best of all angles and shifts of Bx1xhxw coarse images, as poses, and their correlation."""
    height, width = size_of(grey)
    grey = _normalise(grey, torch.ones_like(grey[0, 0]))
    to_rows, to_columns = constants.forward
    from_rows, from_columns = constants.inverse
    # Real and imaginary parts of the rows' transform, each of the columns' real and imaginary.
    by_rows = to_rows @ (grey @ to_columns)
    half = to_columns.shape[1] // 2
    (real_real, real_imag), (imag_real, imag_imag) = (
        part.split(half, -1) for part in by_rows.split(height, -2)
    )
    real, imag = real_real - imag_imag, real_imag + imag_real
    other_real, other_imag = constants.spectra.split(height, -2)
    product = torch.cat(
        [real * other_real - imag * other_imag, real * other_imag + imag * other_real], -2
    )
    shifted = from_rows @ product
    span = from_columns.shape[1]
    correlation = torch.cat(shifted.split(span, -2), -1) @ from_columns
    match, best = correlation.flatten(1).max(1)
    down = best % span**2 // span - span // 2
    right = best % span - span // 2
    shift = torch.stack([right, down], 1) * (2 / min(height, width))
    return torch.cat([constants.angles[best // span**2][:, None], shift], 1), match


def _refine(grey: Tensor, poses: Tensor, constants: _Constants) -> Tensor:
    """Gauss-Newton on the squared difference of the normalised Bx1xhxw images.

    Inverse compositional (Baker and Matthews, "Lucas-Kanade 20 Years On", IJCV 56, 2004): the
    slopes are those of the mean part, so that a step costs one warp of each image.
    """
    for _ in range(REFINEMENTS):
        difference = _seen(grey, poses, constants) - constants.wanted
        change = (difference @ constants.solve).clamp(-MAX_STEP, MAX_STEP)
        angles = poses[:, :1] - change[:, :1]
        moved = (_rotation(angles[:, 0]) @ change[:, 1:, None])[..., 0]
        poses = torch.cat([angles, poses[:, 1:] - moved], 1)
    return poses


def _seen(grey: Tensor, poses: Tensor, constants: _Constants) -> Tensor:
    """Normalised pixels of Bx1xhxw fine images at the given poses, BxP."""
    return _normalise(_warp(grey, poses), constants.disc).flatten(1)


def _rotation(angles: Tensor, aspect: float = 1.0) -> Tensor:
    """Bx2x2 rotations by B angles in radians, where a unit down is `aspect` units to the right."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack(
        [torch.stack([cos, -aspect * sin], -1), torch.stack([1 / aspect * sin, cos], -1)], 1
    )


def _warp(maps: Tensor, poses: Tensor) -> Tensor:
    """Sample BxCxHxW maps where the poses say; beyond the border its values are repeated."""
    return functional.grid_sample(
        maps, _grid(poses, size_of(maps)), padding_mode='border', align_corners=False
    )


def _grid(poses: Tensor, size: tuple[int, int]) -> Tensor:
    """Where poses sample maps of a size, BxHxWx2; what the maps show lies between -1 and 1."""
    height, width = size
    # From halves of the shorter side to grid_sample's halves of each side.
    turns = _rotation(poses[:, 0], height / width)
    shifts = [min(size) / width * poses[:, 1], min(size) / height * poses[:, 2]]
    matrices = torch.cat([turns, torch.stack(shifts, 1)[..., None]], 2)
    return functional.affine_grid(matrices, [poses.shape[0], 1, *size], align_corners=False)


def _shrunk(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """(height, width) of images that are reduced to a shorter side."""
    factor = shorter_side / min(size)
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def _shrink(images: Tensor, shorter_side: int) -> Tensor:
    """Grey images, Bx1xhxw, of the given shorter side."""
    return resize(images.mean(1, keepdim=True), _shrunk(size_of(images), shorter_side))


def _blur(grey: Tensor) -> Tensor:
    rows, columns = (AxisResampling(n, n, sigma=BLUR_SIGMA, radius=BLUR_RADIUS) for n in size_of(grey))
    return separable.resample(grey, rows, columns)


def _disc(size: tuple[int, int], device: torch.device) -> Tensor:
    """HxW weights, 1 in the image's largest disc, falling to 0 at its border: any turn keeps it."""
    shorter = min(size)
    rows, columns = ((torch.arange(n, device=device) * 2 + 1 - n) / shorter for n in size)
    radius = (rows[:, None].square() + columns.square()).sqrt()
    return ((1 - radius) / 0.15).clamp(0, 1)


def _normalise(grey: Tensor, weights: Tensor) -> Tensor:
    """Bx1xHxW images, weighted, of mean 0 and norm 1."""
    mean = (grey * weights).sum((-2, -1), keepdim=True) / weights.sum()
    centred = (grey - mean) * weights
    return centred / centred.square().sum((-2, -1), keepdim=True).sqrt().clamp(min=1e-6)
