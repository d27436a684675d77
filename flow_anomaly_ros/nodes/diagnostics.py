# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The status of a camera that the detector node publishes on /diagnostics."""

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from flow_anomaly_ros.nodes.camera import Camera
from flow_anomaly_ros.scoring.drift import drift, MAX_DRIFT

NO_MODEL = 'no model: train one, set parameter {camera}.model to its file, then call ~/load_model'


def camera_status(node: str, camera: Camera, is_active: bool, dropped: int) -> DiagnosticStatus:
    """Return level, message and values of one camera.

    Args:
        node: Name of the node; the status's name begins with it, as with diagnostic_updater.
        camera: The camera, which is open.
        is_active: Whether the node inspects.
        dropped: Frames that a newer one replaced before they were inspected.
    """
    engine = camera.engine
    statistics = camera.statistics.snapshot()
    calibration = [
        part_class.calibration_scores
        for part_class in (engine.manifest.classes if engine else ())
        if part_class.name == statistics.part_class
    ]
    deviations = drift(statistics.ok_scores, *(calibration or [()]))
    level, message = DiagnosticStatus.OK, 'inspecting'
    problem = camera.problem()
    if not is_active:
        message = 'inactive'
    elif not camera.parameters.enabled:
        message = 'disabled: parameter enabled is false'
    elif engine is None and camera.model_problem:
        level, message = DiagnosticStatus.ERROR, camera.model_problem
    elif engine is None:
        level, message = DiagnosticStatus.WARN, NO_MODEL.format(camera=camera.name)
    elif statistics.last_error:
        level, message = DiagnosticStatus.ERROR, statistics.last_error
    elif problem:
        level, message = DiagnosticStatus.WARN, problem
    elif not camera.input.is_subscribed:
        message = 'idle: no subscriber to its results'
    elif deviations is not None and abs(deviations) > MAX_DRIFT:
        level = DiagnosticStatus.WARN
        message = (
            f'scores of good parts have drifted by {deviations:+.1f} standard deviations since '
            'calibration: check lighting and lens, or retrain'
        )
    values = {
        'model': camera.model_file if engine else 'none',
        'method': engine.manifest.method if engine else 'none',
        'class': statistics.part_class or 'none',
        'backend': engine.backend.name if engine else 'none',
        'image': camera.input.shape,
        'inspected': statistics.inspected,
        'rate (Hz)': f'{statistics.rate:.1f}',
        'dropped': dropped,
        'lost': camera.input.lost,
        'failed': statistics.failed,
        **{f'verdict {name}': count for name, count in statistics.verdicts.items()},
        'drift (standard deviations)': 'not known yet'
        if deviations is None
        else f'{deviations:+.2f}',
    }
    for stage, (median, high) in statistics.latencies.items():
        values[f'{stage} p50 (ms)'] = f'{median:.1f}'
        values[f'{stage} p95 (ms)'] = f'{high:.1f}'
    return DiagnosticStatus(
        level=level,
        name=f'{node}: {camera.name}',
        message=message,
        hardware_id=camera.name,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
