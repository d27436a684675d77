# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A belt as a process: a good part every 0.4 s, announced and shown; prints its decisions.

Ends when stdin is closed. Prints `sent N` and `N decision`, a line each.
"""

import threading

import cv2
from flow_anomaly_ros.data.generated import generate_part
from flow_anomaly_ros.data.image_messages import to_message
import rclpy
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification

PERIOD = 0.4


def main():
    rclpy.init()
    node = rclpy.create_node('belt')
    triggers = node.create_publisher(Header, 'trigger', 10)
    images = node.create_publisher(Image, 'camera/image', 10)
    picture = cv2.resize(generate_part(1000, 64)[0], (640, 480), interpolation=cv2.INTER_LINEAR)
    parts = {}

    def send():
        stamp = node.get_clock().now().to_msg()
        parts[stamp.sec, stamp.nanosec] = len(parts)
        print('sent', len(parts) - 1, flush=True)
        header = Header(stamp=stamp, frame_id='camera')
        triggers.publish(header)
        images.publish(to_message(picture, 'rgb8', header))

    def tell(message):
        stamp = message.header.stamp
        print(parts[stamp.sec, stamp.nanosec], message.results[0].class_id, flush=True)

    node.create_subscription(Classification, 'rejecter/decision', tell, 100)
    node.create_timer(PERIOD, send, clock=Clock(clock_type=ClockType.STEADY_TIME))
    ended = threading.Event()
    threading.Thread(target=lambda: (input_is_closed(), ended.set()), daemon=True).start()
    while not ended.is_set():
        rclpy.spin_once(node, timeout_sec=0.1)


def input_is_closed():
    try:
        while True:
            input()
    except EOFError:
        return


if __name__ == '__main__':
    main()
