# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service of image topics."""

from collections.abc import Sequence

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

# Deep enough that a burst of large reliable images survives; the mailbox keeps the newest anyway.
INPUT_DEPTH = 10
# Every place of a queue may come to hold megabytes for each camera and picture.
OUTPUT_DEPTH = 3
# Verdicts and decisions are small: a listener that is busy for seconds misses none.
SMALL_DEPTH = 200


def output_profile() -> QoSProfile:
    """Profile of the images the package publishes."""
    return QoSProfile(depth=OUTPUT_DEPTH, reliability=ReliabilityPolicy.RELIABLE)


def small_profile() -> QoSProfile:
    """Profile of verdicts, defects and decisions: none may be lost on the way."""
    return QoSProfile(depth=SMALL_DEPTH, reliability=ReliabilityPolicy.RELIABLE)


def matching_profile(publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """Return a subscription profile that all publishers of a topic satisfy.

    A subscription that asks for more than a publisher offers receives nothing and says nothing,
    the most frequent complaint about perception nodes.

    Args:
        publishers: As the graph reports them.

    Returns:
        Reliable if all publishers are, best effort otherwise; volatile, which every one is.
    """
    reliable = all(one.qos_profile.reliability == ReliabilityPolicy.RELIABLE for one in publishers)
    return QoSProfile(
        depth=INPUT_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )
