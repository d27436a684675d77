# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service of image topics."""

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

# Deep enough that a burst of large reliable images survives; the mailbox keeps the newest anyway.
DEPTH = 10


def output_profile() -> QoSProfile:
    """Profile of everything the package publishes: no result may be lost on the way."""
    return QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)


def matching_profile(node: Node, topic: str) -> QoSProfile | None:
    """Return a subscription profile that every present publisher of a topic satisfies.

    A subscription that asks for more than a publisher offers receives nothing and says nothing,
    the most frequent complaint about perception nodes.

    Args:
        node: Node that will subscribe.
        topic: Topic name.

    Returns:
        Reliable if all publishers are, best effort otherwise; None while there is no publisher.
    """
    publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    if not publishers:
        return None
    reliable = all(one.qos_profile.reliability == ReliabilityPolicy.RELIABLE for one in publishers)
    return QoSProfile(
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )
