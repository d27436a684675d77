# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Rigid registration of images to the mean good part."""

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

# Shorter sides in px of the images that are searched over all poses, and of those that refine it.
COARSE_SIDE, FINE_SIDE = 64, 128
# Number of angles searched, evenly spaced over a full turn.
ANGLES = 120
# Largest shift searched, relative to the shorter side.
MAX_SHIFT = 0.25
# Images without a part can reach this correlation by chance: at or below it they are not moved.
MIN_CORRELATION = 0.2
GAUSS_NEWTON_STEPS = 12
# Standard deviation and radius in px of the Gaussian that blurs fine images.
BLUR_SIGMA, BLUR_RADIUS = 1.5, 3
# Step of the finite differences, in units of a pose: radians, or halves of the shorter side.
JACOBIAN_STEP = 2e-3
DAMPING = 1e-2
# Largest change per Gauss-Newton step, in units of a pose.
MAX_STEP = 0.05
FIT_ROUNDS = 3
MAX_FIT_IMAGES = 40
# With at least this mean correlation of unregistered good parts, registration stays off.
ALIGNED_CORRELATION = 0.9
# With less than this correlation in more than one of ten registered good parts, the images show a
# texture or no part, and registration stays off.
MIN_REGISTERED_CORRELATION = 0.9


class Registration(DynamicBufferMixin):
    """Rigid registration to a template, the mean good part, estimated from good parts only.

    A pose maps positions in the registered image to positions in the camera image. Poses are Bx3
    tensors: angle in radians, shift to the right and down in halves of the shorter side.

    A pose is found by normalised cross-correlation with the template at `ANGLES` angles and all
    shifts up to `MAX_SHIFT`, and refined by Gauss-Newton steps on the same measure.

    Registration is off, and images stay as they are, until `fit` finds that the poses of good parts
    differ.
    """

    # The reference has the aspect ratio of the training images.
    dynamic_dimensions: ClassVar = {'reference': (2, 3)}
    reference: Tensor
    is_active: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('reference', torch.zeros(1, 1, FINE_SIDE, FINE_SIDE))
        self.register_buffer('is_active', torch.tensor(data=False))
        self._is_active = False
        self._template: _Template | None = None

    @torch.no_grad()
    def fit(self, images: Tensor, force: bool = False) -> None:
        """Estimate the mean part, and decide whether registration is needed.

        Args:
            images: NxCxHxW images of good parts in [0, 1].
            force: Switch registration on whatever the images show.
        """
        # Evenly spaced, since consecutive images may be of one batch of parts.
        images = images[evenly_spaced_indices(len(images), MAX_FIT_IMAGES)]
        grey = _shrink(images, FINE_SIDE)
        disc = _disc(size_of(grey), images.device)
        unregistered = _normalise(_blur(grey), disc)
        mean = _normalise(unregistered.mean(0, keepdim=True), disc)
        correlation = (unregistered * mean).sum((1, 2, 3))
        self._activate(value=False)
        if len(images) < 2 or (correlation.mean() >= ALIGNED_CORRELATION and not force):
            return
        self._set_reference(grey[:1])
        for _ in range(FIT_ROUNDS):
            poses, _ = self.find(images)
            self._set_reference(_warp(grey, poses).mean(0, keepdim=True))
        self._centre(poses, grey)
        _, correlation = self.find(images)
        is_registered = bool(correlation.quantile(0.1) >= MIN_REGISTERED_CORRELATION)
        self._activate(force or is_registered)

    def _activate(self, value: bool) -> None:
        self.is_active.fill_(value)
        self._is_active = value

    def _centre(self, poses: Tensor, grey: Tensor) -> None:
        """Move the reference to the mean position of the parts, so that none leaves the view."""
        rotations = _rotation(poses[:, 0])
        # The point of the registered image that the poses map nearest to the centres of the images.
        centre = -(rotations.transpose(1, 2) @ poses[:, 1:, None]).mean(0, keepdim=True)
        poses = torch.cat([poses[:, :1], poses[:, 1:] + (rotations @ centre)[..., 0]], 1)
        self._set_reference(_warp(grey, poses).mean(0, keepdim=True))

    @torch.no_grad()
    def find(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Find the poses of BxCxHxW images.

        Returns:
            Poses, Bx3, and the correlation of each registered image with the template, B, <= 1.
        """
        poses, grey, template = self._find_poses(images)
        return poses, (_sample_pixels(grey, poses, template) * template.pixels).sum(1)

    @autocast_disabled
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Register BxCxHxW images.

        Returns:
            Registered images of the same size, and their poses; None if registration is off.
        """
        if not self._is_active:
            return images, None
        poses, _, _ = self._find_poses(images)
        return _warp(images, poses), poses

    def _find_poses(self, images: Tensor) -> tuple[Tensor, Tensor, '_Template']:
        """Poses, fine images and template."""
        template = self._template_for(images)
        grey = _blur(_shrink(images, FINE_SIDE))
        poses, correlation = _search(_shrink(images, COARSE_SIDE), template)
        poses = _refine(grey, poses, template) * (correlation > MIN_CORRELATION)[:, None]
        return poses, grey, template

    @autocast_disabled
    def undo(self, maps: Tensor, poses: Tensor | None) -> Tensor:
        """Transform maps of registered images, BxCxHxW, back to the camera images.

        Positions outside the registered image were not inspected and get 0.

        Args:
            maps: BxCxHxW maps of registered images.
            poses: Poses that `forward` returned with these images.
        """
        if poses is None:
            return maps
        inverse_shift = -_rotation(-poses[:, 0]) @ poses[:, 1:, None]
        poses = torch.cat([-poses[:, :1], inverse_shift[..., 0]], 1)
        return _warp(maps, poses, padding='zeros')

    @autocast_disabled
    def weigh_border(self, maps: Tensor, poses: Tensor | None, ring: int, weight: float) -> Tensor:
        """Multiply maps by a factor near the borders of the registered and of the camera images.

        Maps are set to 0 outside the camera images, where registered images repeat the border.

        Args:
            maps: BxCxHxW maps of registered images.
            poses: Poses that `forward` returned with these images; None without registration.
            ring: Width of the border in px.
            weight: The factor.
        """
        factors = torch.full_like(maps[:1, :1], weight)
        factors[..., ring:-ring, ring:-ring].fill_(1)
        if poses is None:
            return maps * factors
        grid, size = _grid(poses, size_of(maps)), size_of(maps)
        of_camera = torch.where(_is_within(grid, size, ring), 1.0, weight)
        of_camera = of_camera * _is_within(grid, size, 0)
        return maps * torch.minimum(factors, of_camera[:, None])

    def _set_reference(self, reference: Tensor) -> None:
        self.reference = reference
        self._template = None

    def _template_for(self, images: Tensor) -> '_Template':
        """The template at the size of the images, cached."""
        sizes = _shrunk(size_of(images), COARSE_SIDE), _shrunk(size_of(images), FINE_SIDE)
        template = self._template
        if template is None or template.sizes != sizes or template.disc.device != images.device:
            # Cached for training as well, which cannot use tensors made in inference mode.
            with torch.inference_mode(mode=False), torch.no_grad():
                template = self._template = _Template.of(self.reference.to(images), *sizes)
        return template

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._template = None
        self._is_active = bool(self.is_active)


class _Template(NamedTuple):
    """Mean part at the size of the images, and everything derived from it.

    Attributes:
        sizes: (height, width) of the coarse and of the fine images in px.
        angles: Angles of the rotated coarse templates in radians, A.
        spectra: Conjugate spectra of the rotated coarse templates, Ax(2h)xw', the real parts above
            the imaginary parts.
        forward: Fourier transform as matrices, of rows (2hxh) and of columns (wx2w').
        inverse: Inverse Fourier transform to the searched shifts as matrices, of rows and columns.
        disc: Weights of the pixels of fine images, HxW.
        pixels: Normalised fine template, 1xP.
        solve: Pseudo-inverse of the Jacobian, from pixel differences to changes of a pose, Px3.
    """

    sizes: tuple[tuple[int, int], tuple[int, int]]
    angles: Tensor
    spectra: Tensor
    forward: tuple[Tensor, Tensor]
    inverse: tuple[Tensor, Tensor]
    disc: Tensor
    pixels: Tensor
    solve: Tensor

    @classmethod
    def of(cls, reference: Tensor, coarse: tuple[int, int], fine: tuple[int, int]) -> '_Template':
        angles = torch.arange(ANGLES, device=reference.device) * (2 * math.pi / ANGLES)
        rotations = torch.stack([-angles, 0 * angles, 0 * angles], 1)
        templates = _normalise(
            _warp(resize(reference, coarse).expand(ANGLES, -1, -1, -1), rotations),
            _disc(coarse, reference.device),
        )
        spectra = torch.fft.rfft2(templates[:, 0]).conj()
        disc = _disc(fine, reference.device)
        mean_part = _blur(resize(reference, fine))
        steps = JACOBIAN_STEP * torch.cat([torch.eye(3), -torch.eye(3)]).to(reference)
        moved = _normalise(_warp(mean_part.expand(6, -1, -1, -1), steps), disc).flatten(1)
        jacobian = (moved[:3] - moved[3:]).T / (2 * JACOBIAN_STEP)
        hessian = jacobian.T @ jacobian
        # Levenberg-Marquardt damping; the constant is for parts without structure (zero Jacobian).
        hessian = hessian + torch.diag(DAMPING * hessian.diagonal() + 1e-6)
        forward, inverse = _fourier_matrices(coarse, round(MAX_SHIFT * min(coarse)))
        return cls(
            sizes=(coarse, fine),
            angles=angles,
            spectra=torch.cat([spectra.real, spectra.imag], 1),
            forward=(forward[0].to(reference), forward[1].to(reference)),
            inverse=(inverse[0].to(reference), inverse[1].to(reference)),
            disc=disc,
            pixels=_normalise(mean_part, disc).flatten(1),
            solve=torch.linalg.solve(hessian, jacobian.T).T,
        )


def _fourier_matrices(
    size: tuple[int, int], max_shift: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Fourier transform of real images as matrix products, which every runtime has.

    Complex numbers are two blocks of rows, real above imaginary, or two blocks of columns.

    Args:
        size: (height, width) of the images in px.
        max_shift: Largest shift in px.

    Returns:
        Matrices of rows and columns to a spectrum, and from a spectrum to shifts from -max_shift to
        max_shift.
    """
    height, width = size
    frequencies = torch.arange(width // 2 + 1, dtype=torch.float64)
    shifts = torch.arange(-max_shift, max_shift + 1, dtype=torch.float64)

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
    # Each frequency also stands for its negative, except 0 and, for even widths, the highest.
    weights = torch.full((len(frequencies), 1), 2.0 / width, dtype=torch.float64)
    weights[0] = 1 / width
    if width % 2 == 0:
        weights[-1] = 1 / width
    from_columns = torch.cat([weights * cos, -weights * sin])
    return (to_rows, to_columns), (from_rows, from_columns)


def _search(grey: Tensor, template: _Template) -> tuple[Tensor, Tensor]:
    """Search all angles and shifts of Bx1xhxw coarse images: best poses and their correlations."""
    height, width = size_of(grey)
    grey = _normalise(grey, torch.ones_like(grey[0, 0]))
    to_rows, to_columns = template.forward
    from_rows, from_columns = template.inverse
    # Blocks: real and imaginary part of the transform of rows, times those of columns.
    by_rows = to_rows @ (grey @ to_columns)
    half = to_columns.shape[1] // 2
    (real_real, real_imag), (imag_real, imag_imag) = (
        part.split(half, -1) for part in by_rows.split(height, -2)
    )
    real, imag = real_real - imag_imag, real_imag + imag_real
    other_real, other_imag = template.spectra.split(height, -2)
    product = torch.cat(
        [real * other_real - imag * other_imag, real * other_imag + imag * other_real], -2
    )
    shifted = from_rows @ product
    span = from_columns.shape[1]
    correlation = torch.cat(shifted.split(span, -2), -1) @ from_columns
    best_correlation, best = correlation.flatten(1).max(1)
    down = best % span**2 // span - span // 2
    right = best % span - span // 2
    shift = torch.stack([right, down], 1) * (2 / min(height, width))
    return torch.cat([template.angles[best // span**2][:, None], shift], 1), best_correlation


def _refine(grey: Tensor, poses: Tensor, template: _Template) -> Tensor:
    """Refine poses by Gauss-Newton on the squared difference to the template.

    Inverse compositional (Baker and Matthews, "Lucas-Kanade 20 Years On", IJCV 56, 2004): the
    Jacobian is that of the template, so a step costs one warp of each Bx1xhxw fine image.
    """
    for _ in range(GAUSS_NEWTON_STEPS):
        difference = _sample_pixels(grey, poses, template) - template.pixels
        change = (difference @ template.solve).clamp(-MAX_STEP, MAX_STEP)
        angles = poses[:, :1] - change[:, :1]
        moved = (_rotation(angles[:, 0]) @ change[:, 1:, None])[..., 0]
        poses = torch.cat([angles, poses[:, 1:] - moved], 1)
    return poses


def _sample_pixels(grey: Tensor, poses: Tensor, template: _Template) -> Tensor:
    """Normalised pixels of Bx1xhxw fine images at the given poses, BxP."""
    return _normalise(_warp(grey, poses), template.disc).flatten(1)


def _rotation(angles: Tensor, aspect: float = 1.0) -> Tensor:
    """Bx2x2 rotations by B angles in radians; a unit down is `aspect` times a unit to the right."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack(
        [torch.stack([cos, -aspect * sin], -1), torch.stack([1 / aspect * sin, cos], -1)], 1
    )


def _warp(maps: Tensor, poses: Tensor, padding: str = 'border') -> Tensor:
    """Sample BxCxHxW maps at poses; outside, the border is repeated, or there are `zeros`."""
    return functional.grid_sample(
        maps, _grid(poses, size_of(maps)), padding_mode=padding, align_corners=False
    )


def _is_within(grid: Tensor, size: tuple[int, int], ring: float) -> Tensor:
    """Where a BxHxWx2 grid lies inside maps without their outermost `ring` px, BxHxW."""
    height, width = size
    x, y = grid.abs().unbind(-1)
    return (x <= 1 - 2 * ring / width) & (y <= 1 - 2 * ring / height)


def _grid(poses: Tensor, size: tuple[int, int]) -> Tensor:
    """Sampling grid of poses, BxHxWx2; the map extends from -1 to 1 in both directions."""
    height, width = size
    # Convert halves of the shorter side to halves of each side, the units of grid_sample.
    rotations = _rotation(poses[:, 0], height / width)
    shifts = [min(size) / width * poses[:, 1], min(size) / height * poses[:, 2]]
    matrices = torch.cat([rotations, torch.stack(shifts, 1)[..., None]], 2)
    return functional.affine_grid(matrices, [poses.shape[0], 1, *size], align_corners=False)


def _shrunk(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """(height, width) in px of images scaled to a shorter side."""
    factor = shorter_side / min(size)
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def _shrink(images: Tensor, shorter_side: int) -> Tensor:
    """BxCxHxW images to Bx1xhxw grey images of the given shorter side in px."""
    return resize(images.mean(1, keepdim=True), _shrunk(size_of(images), shorter_side))


def _blur(grey: Tensor) -> Tensor:
    rows, columns = (
        AxisResampling(side, side, sigma=BLUR_SIGMA, radius=BLUR_RADIUS) for side in size_of(grey)
    )
    return separable.resample(grey, rows, columns)


def _disc(size: tuple[int, int], device: torch.device) -> Tensor:
    """HxW weights of the image's largest disc, falling to 0 at its edge; invariant to rotation."""
    shorter = min(size)
    rows, columns = ((torch.arange(n, device=device) * 2 + 1 - n) / shorter for n in size)
    radius = (rows[:, None].square() + columns.square()).sqrt()
    return ((1 - radius) / 0.15).clamp(0, 1)


def _normalise(grey: Tensor, weights: Tensor) -> Tensor:
    """Normalise weighted Bx1xHxW images to mean 0 and norm 1."""
    mean = (grey * weights).sum((-2, -1), keepdim=True) / weights.sum()
    centred = (grey - mean) * weights
    return centred / centred.square().sum((-2, -1), keepdim=True).sqrt().clamp(min=1e-6)
