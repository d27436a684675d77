# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the inspection report node."""

from dataclasses import dataclass

from flow_anomaly_ros.nodes.parameters.declaration import parameter


@dataclass(frozen=True)
class InspectionReportParameters:
    """Parameters of the inspection report node."""

    data: str = parameter(
        '', 'Folder in MVTec layout that the image source publishes. Required.', read_only=True
    )
    camera: str = parameter('camera', 'Camera name, the prefix of the topics.', read_only=True)
    output: str = parameter('', 'Folder for pictures of the results. Empty: none.', read_only=True)
    source: str = parameter(
        'image_source',
        'Name of the image source node, whose `rate` must be 0.',
        read_only=True,
    )
    least_right: float = parameter(
        0.8,
        'Minimum share of correct verdicts; below it the exit status is 1. An uncertain verdict is '
        'neither correct nor wrong.',
        limits=(0.0, 1.0),
        read_only=True,
    )
    most_wrong: float = parameter(
        0.1,
        'Maximum share of wrong verdicts; above it the exit status is 1.',
        limits=(0.0, 1.0),
        read_only=True,
    )
    timeout: float = parameter(
        60.0,
        'Seconds to wait for the first image, and for the results of each image.',
        limits=(0.1, 3600.0),
        read_only=True,
    )
