# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The hand-over of frames to the inspecting thread."""

import threading

from flow_anomaly_ros.nodes.latest_frame_buffer import LatestFrameBuffer
from waiting import wait_for


def test_the_newest_message_of_each_camera_is_taken_and_the_others_are_counted():
    buffer = LatestFrameBuffer()
    for camera, message in (('front', 'old'), ('side', 'only'), ('front', 'new')):
        buffer.put(camera, message)
    assert buffer.take_all() == {'front': 'new', 'side': 'only'}
    assert (buffer.dropped('front'), buffer.dropped('side')) == (1, 0)
    buffer.put('front', 'next')
    assert buffer.take_all() == {'front': 'next'}
    assert buffer.dropped('front') == 1


def test_closing_wakes_the_waiting_thread_and_empties_the_buffer():
    buffer = LatestFrameBuffer()
    taken = []
    waiter = threading.Thread(target=lambda: taken.append(buffer.take_all()), daemon=True)
    waiter.start()
    buffer.close()
    wait_for(lambda: taken, 'the end of the wait')
    buffer.put('front', 'late')
    assert taken == [{}]
    assert buffer.take_all() == {}
