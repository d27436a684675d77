# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the rejecter node."""

from dataclasses import dataclass

from flow_anomaly_ros.cell.rules import MISSING_POLICIES, UNCERTAIN_POLICIES
from flow_anomaly_ros.nodes.parameters.declaration import parameter

# Keys of `nodes.arm.SERVICE_TYPES`.
ARM_SERVICE_TYPES = ('set_bool', 'trigger')

_SECONDS = (0.0, 3600.0)


@dataclass(frozen=True)
class RejecterParameters:
    """Parameters of the rejecter node."""

    cameras: tuple[str, ...] = parameter(
        ('camera',),
        'Names of the cameras that inspect every part. Their verdicts are read from '
        '`<camera>/verdict`.',
        read_only=True,
    )
    grouping: str = parameter(
        'window',
        'How verdicts are grouped into parts. `trigger`: a `std_msgs/Header` on the topic '
        '`trigger` announces each part; its stamp is the time at which the part arrived, its '
        '`frame_id` may name the part, and a part that no camera has seen is decided after '
        '`timeout`. `window`: images taken at about the same time belong to the same part; a part '
        'that no camera has seen gets no decision, so do not treat a missing decision as pass.',
        choices=('trigger', 'window'),
        read_only=True,
    )
    window: float = parameter(
        0.5,
        'Images of a part are taken within this many seconds after its trigger or, without '
        'triggers, before or after its first image. Must be shorter than half the time between '
        'two parts.',
        limits=_SECONDS,
    )
    one_image: bool = parameter(
        False,
        'Each camera takes one image of a part, as with a hardware trigger: the part passes as '
        'soon as all cameras have given a verdict. False: it passes at the end of the window, '
        'since the first of several images may not show the defect yet.',
    )
    tolerance: float = parameter(
        0.05,
        'Seconds by which the stamp of an image may precede its trigger, or a verdict may arrive '
        'after the window.',
        limits=_SECONDS,
    )
    debounce: float = parameter(
        0.0,
        'Seconds after a trigger in which another trigger is ignored, for a light barrier that '
        'bounces. Without triggers: seconds after the window in which ok verdicts still belong to '
        'the same part; any other verdict starts a new part, so that no defect is ignored.',
        limits=_SECONDS,
    )
    least_defects: int = parameter(
        1,
        'Number of cameras that must report a defect for the part to be rejected: 1 to the number '
        'of cameras.',
        limits=(1, 1000),
    )
    uncertain: str = parameter(
        'reject',
        'Meaning of an uncertain verdict: `reject` counts it as a defect, `hold` holds the part '
        'unless it is rejected anyway, `pass` counts it as ok.',
        choices=UNCERTAIN_POLICIES,
    )
    timeout: float = parameter(
        1.0,
        'Seconds in which all verdicts of a part must arrive, measured from the arrival of its '
        'trigger or first verdict. A part without all its verdicts never passes and raises a '
        'fault. Must be longer than `window` and `tolerance` together.',
        limits=_SECONDS,
    )
    on_missing: str = parameter(
        'reject',
        'Decision on a part without all its verdicts: `reject` or `hold`.',
        choices=MISSING_POLICIES,
    )
    silence: float = parameter(
        0.0,
        'Seconds without a verdict of a camera after which a fault is raised. 0: never.',
        limits=_SECONDS,
    )
    clear_faults_after: float = parameter(
        0.0,
        'Seconds without a new fault after which the fault is cleared. 0: it stays in the '
        'diagnostics until `~/clear_fault` is called.',
        limits=(0.0, 1e6),
    )
    arm_service: str = parameter(
        '', 'Service of the arm, ejector or PLC that removes parts. Empty: none.', read_only=True
    )
    arm_service_type: str = parameter(
        'set_bool',
        'Type of that service. `set_bool`: `std_srvs/SetBool`, called for every part, true to '
        'remove it. `trigger`: `std_srvs/Trigger`, called for every part that does not pass.',
        choices=ARM_SERVICE_TYPES,
        read_only=True,
    )
    arm_timeout: float = parameter(
        2.0,
        'Seconds from a decision to the response of the arm. A call without a response by then is '
        'abandoned and raises a fault, because a late call would remove the wrong part.',
        limits=_SECONDS,
    )
