# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service of the topics."""

from collections.abc import Sequence

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

# Deep enough for a burst of large reliable images; only the newest of each camera is inspected.
INPUT_DEPTH = 10
# Each queued message of a camera and picture may hold megabytes.
OUTPUT_DEPTH = 3
# Verdicts and decisions are small: a subscriber that is busy for seconds must not miss any.
SMALL_DEPTH = 200


def output_profile() -> QoSProfile:
    """Return the profile of the images that the package publishes."""
    return QoSProfile(depth=OUTPUT_DEPTH, reliability=ReliabilityPolicy.RELIABLE)


def small_profile() -> QoSProfile:
    """Return the profile of verdicts, defects and decisions, none of which may be lost."""
    return QoSProfile(depth=SMALL_DEPTH, reliability=ReliabilityPolicy.RELIABLE)


def matching_profile(publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """Return a subscription profile that all publishers of a topic satisfy.

    A subscription that requests more than a publisher offers silently receives nothing.

    Args:
        publishers: Endpoints as the ROS graph reports them.

    Returns:
        Reliable if all publishers are, best effort otherwise; volatile, which every publisher
        satisfies.
    """
    reliable = all(
        publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE for publisher in publishers
    )
    return QoSProfile(
        depth=INPUT_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )
