# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of an inspection, and unique file names for them."""

from flow_anomaly_ros.runtime.engine import Engine, Inspection
from flow_anomaly_ros.runtime.overlay import contact_strip, draw_overlay, heat_map
import numpy as np

# The score map's colours end at this multiple of the score that a defect region has to reach.
HEAT_RANGE = 2.0


def inspection_strip(image: np.ndarray, inspection: Inspection) -> np.ndarray:
    """Image, score map, mask and overlay side by side, as RGB uint8.

    Args:
        image: The inspected image, HxW grey or HxWx3 RGB, uint8 or uint16.
        inspection: Its inspection; its thresholds fix the colours of the score map.
    """
    return contact_strip(_judged(image, inspection))


def explanation(
    engine: Engine, image: np.ndarray, inspection: Inspection, truth: np.ndarray | None = None
) -> np.ndarray:
    """Show why pixels of an image are called abnormal: what the detector compared, row by row.

    Args:
        engine: The engine.
        image: HxW grey or HxWx3 RGB, uint8 or uint16.
        inspection: Its inspection by that engine.
        truth: HxW bool mask of the defective pixels, where it is known.

    Returns:
        RGB uint8: the inspection, then the detector's own pictures, such as restored images.
    """
    rows = [_judged(image, inspection), *engine.explain(image, inspection.part_class)]
    if truth is not None:
        rows[0]['truth'] = 255 * truth.astype(np.uint8)
    strips = [contact_strip(row) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    return np.vstack(
        [np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in strips]
    )


def _judged(image: np.ndarray, inspection: Inspection) -> dict[str, np.ndarray]:
    overlay = draw_overlay(
        image, inspection.mask, inspection.regions, inspection.verdict, inspection.image_score
    )
    high = HEAT_RANGE * inspection.thresholds.region
    heat = f'score map, 0 to {high:.3g}'
    return {
        'image': image,
        heat: heat_map(inspection.score_map, 0, high),
        'mask': inspection.mask,
        'overlay': overlay,
    }


def unique_name(name: str, taken: set[str]) -> str:
    """Return a name with a number behind it where an earlier image of this run has it already.

    Args:
        name: Wanted name.
        taken: Names given so far; the returned one is added.
    """
    free, number = name, 2
    while free in taken:
        free, number = f'{name}_{number}', number + 1
    taken.add(free)
    return free
