# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The hand-over of frames to the inspecting thread."""

import threading

from flow_anomaly_ros.nodes.mailbox import Mailbox


def test_the_newest_message_of_each_camera_is_taken_and_the_others_are_counted():
    mailbox = Mailbox()
    for camera, message in (('front', 'old'), ('side', 'only'), ('front', 'new')):
        mailbox.put(camera, message)
    assert mailbox.take_all() == {'front': 'new', 'side': 'only'}
    assert (mailbox.dropped('front'), mailbox.dropped('side')) == (1, 0)
    mailbox.put('front', 'next')
    assert mailbox.take_all() == {'front': 'next'}
    assert mailbox.dropped('front') == 1


def test_closing_wakes_who_waits_and_leaves_nothing_to_take():
    mailbox = Mailbox()
    taken = []
    waiter = threading.Thread(target=lambda: taken.append(mailbox.take_all()), daemon=True)
    waiter.start()
    mailbox.close()
    waiter.join(timeout=20)
    mailbox.put('front', 'late')
    assert taken == [{}]
    assert mailbox.take_all() == {}
