# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Inspections as ROS messages."""

from flow_anomaly_ros.runtime.engine import Inspection
from flow_anomaly_ros.scoring.regions import Region
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Classification,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

REGION_CLASS = 'defect'


def verdict_message(inspection: Inspection, header: Header) -> Classification:
    """Return a message with one hypothesis: the verdict and the image score.

    The score has the unit of the thresholds. It says how anomalous the image is, not how certain
    the verdict is.
    """
    hypothesis = ObjectHypothesis(
        class_id=str(inspection.verdict), score=float(inspection.image_score)
    )
    return Classification(header=header, results=[hypothesis])


def defects_message(inspection: Inspection, header: Header) -> Detection2DArray:
    """Return one detection per region, the highest score first; see `detection_message`."""
    return Detection2DArray(
        header=header,
        detections=[detection_message(region, header) for region in inspection.regions],
    )


def detection_message(region: Region, header: Header) -> Detection2D:
    """Return the upright box of a region in px of the camera image, and its highest score.

    The box's centre is in the coordinates of pixel centres, like `Region`. `id` is empty, since
    regions are not tracked from image to image.
    """
    centre = Point2D(
        x=region.x + (region.width - 1) / 2,
        y=region.y + (region.height - 1) / 2,
    )
    hypothesis = ObjectHypothesis(class_id=REGION_CLASS, score=region.max_score)
    return Detection2D(
        header=header,
        results=[ObjectHypothesisWithPose(hypothesis=hypothesis)],
        bbox=BoundingBox2D(
            center=Pose2D(position=centre, theta=0.0),
            size_x=float(region.width),
            size_y=float(region.height),
        ),
    )
