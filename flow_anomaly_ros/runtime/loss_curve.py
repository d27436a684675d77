# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Plots the losses of a training."""

from pathlib import Path

from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.detectors.base import FitReport
import numpy as np

PANEL_SIZE = (6.0, 3.2)  # inches
DPI = 120


def save_loss_curve(path: Path, report: FitReport) -> None:
    """Write a plot with one panel per training stage, atomically.

    Args:
        path: Target image file; an existing one is replaced.
        report: Losses by stage, one stage at least.

    Raises:
        ValueError: No stage has a loss, or the folder is missing.
        OSError: The file cannot be written.
    """
    if not report.losses:
        msg = f'cannot draw {path}: the training reported no losses'
        raise ValueError(msg)
    # Imported here: this takes half a second, and most trainings draw no plot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = PANEL_SIZE
    figure = Figure((width, height * len(report.losses)), dpi=DPI, layout='constrained')
    # A canvas of its own needs neither a window system nor pyplot's global state.
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(report.losses), squeeze=False)[:, 0]
    for axes, (stage, losses) in zip(panels, report.losses.items(), strict=True):
        axes.plot(range(1, len(losses) + 1), losses, linewidth=1)
        axes.set_title(f'{stage}: {len(losses)} steps, last loss {losses[-1]:.4g}')
        axes.set_xlabel('step')
        axes.set_ylabel('loss')
        axes.grid(alpha=0.3)
    canvas.draw()
    write_image(path, np.asarray(canvas.buffer_rgba())[..., :3])
