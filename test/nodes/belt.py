# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A conveyor belt in a process of its own: every 0.4 s a trigger and an image of a good part.

Prints one line `sent N` for each part and one line `N DECISION` for each decision, and exits when
stdin is closed.
"""

import sys
import threading

import cv2
from flow_anomaly_ros.data.generated import generate_part
from flow_anomaly_ros.data.image_messages import to_message
import rclpy
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification

PERIOD_S = 0.4


def main():
    rclpy.init()
    node = rclpy.create_node('belt')
    triggers = node.create_publisher(Header, 'trigger', 10)
    images = node.create_publisher(Image, 'camera/image', 10)
    image = cv2.resize(generate_part(1000, 64)[0], (640, 480), interpolation=cv2.INTER_LINEAR)
    part_numbers = {}

    def send_part():
        stamp = node.get_clock().now().to_msg()
        number = len(part_numbers)
        part_numbers[stamp.sec, stamp.nanosec] = number
        print('sent', number, flush=True)
        header = Header(stamp=stamp, frame_id='camera')
        triggers.publish(header)
        images.publish(to_message(image, 'rgb8', header))

    def print_decision(message):
        stamp = message.header.stamp
        number = part_numbers[stamp.sec, stamp.nanosec]
        print(number, message.results[0].class_id, flush=True)

    node.create_subscription(Classification, 'rejecter/decision', print_decision, 100)
    node.create_timer(PERIOD_S, send_part, clock=Clock(clock_type=ClockType.STEADY_TIME))
    is_closed = threading.Event()
    threading.Thread(target=wait_for_end_of_input, args=(is_closed,), daemon=True).start()
    while not is_closed.is_set():
        rclpy.spin_once(node, timeout_sec=0.1)


def wait_for_end_of_input(is_closed):
    sys.stdin.read()
    is_closed.set()


if __name__ == '__main__':
    main()
