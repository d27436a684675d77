# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts that lie turned or shifted, brought to one pose before they are compared."""

import math
from typing import ClassVar

from flow_anomaly_ros.layers.resample import resize, size_of
from flow_anomaly_ros.layers.sized import SizedByTraining
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

# Shorter side in px of the images that are searched over all angles, and of those that the found
# pose is refined on.
COARSE, FINE = 64, 128
ANGLES = 120
# Largest shift searched, as a share of the image's shorter side.
REACH = 0.25
REFINEMENTS = 12
# Radians, or halves of the shorter side: the change that slopes are measured over.
PROBE = 2e-3
DAMPING = 1e-2
# Radians, or halves of the shorter side: the largest correction of one refinement.
LARGEST_STEP = 0.05
FIT_ROUNDS = 3
FIT_IMAGES = 40
# Good parts that already match their mean image this well are left as they lie.
ALIKE = 0.9
# Registered, nine of ten good parts must match it this well: otherwise it is a texture or an image
# without a part, which has no pose.
MATCHED = 0.9


class Registration(SizedByTraining):
    """Rigid registration to the mean good part, learned from good parts alone.

    A pose is the angle and shift that turn positions of the registered image into positions of
    the camera's image. It is found by normalised cross-correlation with the mean part turned to
    `ANGLES` angles, at all shifts up to `REACH`, and refined by Gauss-Newton steps on the same
    measure. Until `fit` finds that good parts lie turned or shifted, images are left as they are.

    Poses are Bx3 tensors: angle in radians, shift right and down in halves of the shorter side.
    """

    # The reference has the aspect ratio of the images of the training.
    free_dimensions: ClassVar = {'reference': (2, 3)}
    reference: Tensor
    is_active: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('reference', torch.zeros(1, 1, FINE, FINE))
        self.register_buffer('is_active', torch.tensor(data=False))

    @torch.no_grad()
    def fit(self, images: Tensor, force: bool = False) -> None:
        """Learn the mean part, and whether parts have to be registered at all.

        Args:
            images: NxCxHxW images of good parts in [0, 1].
            force: Register whatever the images show.
        """
        images = images[:FIT_IMAGES]
        grey = _shrink(images, FINE)
        disc = _disc(size_of(grey), images.device)
        before = _normalise(_blur(grey), disc)
        likeness = (before * _normalise(before.mean(0, keepdim=True), disc)).sum((1, 2, 3))
        self.is_active.fill_(value=False)
        if len(images) < 2 or (likeness.mean() >= ALIKE and not force):
            return
        self.reference = grey[:1]
        for _ in range(FIT_ROUNDS):
            poses, _ = self.find(images)
            self.reference = _warp(grey, poses).mean(0, keepdim=True)
        self._centre(poses, grey)
        _, match = self.find(images)
        self.is_active.fill_(force or bool(match.quantile(0.1) >= MATCHED))

    def _centre(self, poses: Tensor, grey: Tensor) -> None:
        """Move the mean part to where parts lie on average, so that none is pushed out."""
        turns = _rotation(poses[:, 0])
        # The point of the registered image that all poses bring nearest to the image's centre.
        centre = -(turns.transpose(1, 2) @ poses[:, 1:, None]).mean(0, keepdim=True)
        poses = torch.cat([poses[:, :1], poses[:, 1:] + (turns @ centre)[..., 0]], 1)
        self.reference = _warp(grey, poses).mean(0, keepdim=True)

    @torch.no_grad()
    def find(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Find the poses of BxCxHxW images.

        Returns:
            Poses, Bx3, and how well each image then matches the mean part, B, at most 1.
        """
        return self._refine(images, self._search(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Register BxCxHxW images.

        Returns:
            Images of the same size and their poses, None where nothing was to be done.
        """
        if not self.is_active:
            return images, None
        poses, _ = self.find(images)
        return _warp(images, poses), poses

    def undo(self, maps: Tensor, poses: Tensor | None) -> Tensor:
        """Bring maps of registered images, BxCxHxW, back to how the images were.

        What lay outside the registered image gets the value of its nearest border.
        """
        if poses is None:
            return maps
        inverse_shift = -_rotation(-poses[:, 0]) @ poses[:, 1:, None]
        return _warp(maps, torch.cat([-poses[:, :1], inverse_shift[..., 0]], 1))

    def _search(self, images: Tensor) -> Tensor:
        """Best of all angles and shifts at low resolution, as poses."""
        grey = _shrink(images, COARSE)
        size = size_of(grey)
        angles = torch.arange(ANGLES, device=images.device) * (2 * math.pi / ANGLES)
        turned = torch.stack([-angles, 0 * angles, 0 * angles], 1)
        templates = _normalise(
            _warp(resize(self.reference, size).expand(ANGLES, -1, -1, -1), turned),
            _disc(size, images.device),
        )
        spectra = torch.fft.rfft2(templates[:, 0]).conj()
        reach = round(REACH * min(size))
        poses = []
        for image in _normalise(grey, torch.ones_like(grey[0, 0])):
            correlation = torch.fft.irfft2(torch.fft.rfft2(image) * spectra, s=size)
            # Shifts from -reach to reach, instead of wrapped around.
            near = correlation.roll((reach, reach), (-2, -1))[:, : 2 * reach + 1, : 2 * reach + 1]
            best = near.flatten().argmax()
            span = 2 * reach + 1
            down = best % span**2 // span - reach
            right = best % span - reach
            shift = torch.stack([right, down]) * (2 / min(size))
            poses.append(torch.cat([angles[best // span**2, None], shift]))
        return torch.stack(poses)

    def _refine(self, images: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Gauss-Newton on the squared difference of the normalised images.

        Inverse compositional (Baker and Matthews, "Lucas-Kanade 20 Years On", IJCV 56, 2004): the
        slopes are those of the mean part, so that a step costs one warp of each image.
        """
        grey = _blur(_shrink(images, FINE))
        disc = _disc(size_of(grey), images.device)
        mean_part = _blur(resize(self.reference, size_of(grey)))
        wanted = _normalise(mean_part, disc).flatten(1)

        def seen(poses: Tensor) -> Tensor:
            return _normalise(_warp(grey, poses), disc).flatten(1)

        steps = PROBE * torch.cat([torch.eye(3), -torch.eye(3)]).to(images)
        probed = _normalise(_warp(mean_part.expand(6, -1, -1, -1), steps), disc).flatten(1)
        jacobian = (probed[:3] - probed[3:]).T / (2 * PROBE)
        square = jacobian.T @ jacobian
        # A part without structure has no slope: the small constant keeps images where they are.
        square = square + torch.diag(DAMPING * square.diagonal() + 1e-6)
        solve = torch.linalg.solve(square, jacobian.T).T
        for _ in range(REFINEMENTS):
            change = ((seen(poses) - wanted) @ solve).clamp(-LARGEST_STEP, LARGEST_STEP)
            angles = poses[:, :1] - change[:, :1]
            moved = (_rotation(angles[:, 0]) @ change[:, 1:, None])[..., 0]
            poses = torch.cat([angles, poses[:, 1:] - moved], 1)
        return poses, (seen(poses) * wanted).sum(1)


def _rotation(angles: Tensor) -> Tensor:
    """Bx2x2 rotations by B angles in radians."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)


def _warp(maps: Tensor, poses: Tensor) -> Tensor:
    """Sample BxCxHxW maps where the poses say; beyond the border its values are repeated."""
    size = size_of(maps)
    # From halves of the shorter side to grid_sample's halves of each side.
    unit = maps.new_tensor([min(size) / size[1], min(size) / size[0]])
    turns = unit[:, None] * _rotation(poses[:, 0]) / unit
    matrices = torch.cat([turns, (unit * poses[:, 1:])[..., None]], 2)
    grid = functional.affine_grid(matrices, [len(maps), 1, *size], align_corners=False)
    return functional.grid_sample(maps, grid, padding_mode='border', align_corners=False)


def _shrink(images: Tensor, shorter_side: int) -> Tensor:
    """Grey images, Bx1xHxW, of the given shorter side."""
    height, width = size_of(images)
    factor = shorter_side / min(height, width)
    return resize(
        images.mean(1, keepdim=True),
        (max(1, round(height * factor)), max(1, round(width * factor))),
    )


def _blur(grey: Tensor) -> Tensor:
    return gaussian_blur(grey, [7, 7], [1.5, 1.5])


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
