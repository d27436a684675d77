# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A cell of several processes over DDS: parts arrive, are inspected, and decided on."""

import itertools
import time

import cv2
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from builtin_interfaces.msg import Time
from flow_anomaly_ros import demo
from flow_anomaly_ros.data.generated import generate_part
from flow_anomaly_ros.data.image_messages import to_array, to_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture
def start():
    """Start a node as a process; all are ended with the test."""
    started = []

    def start_one(executable, **parameters):
        values = {name.replace('__', '.'): value for name, value in parameters.items()}
        started.append(demo.start(executable, values))
        return started[-1]

    yield start_one
    for process in started:
        demo.stop(process)


class Belt:
    """Announces parts, shows them to the camera, and notes the decisions by part."""

    def __init__(self, probe, wait_for):
        self.probe, self.wait_for = probe, wait_for
        self.trigger = probe.node.create_publisher(Header, 'trigger', 10)
        self.decisions = {}
        self.defective = set()
        probe.node.create_subscription(Classification, 'rejecter/decision', self._note, 100)

    def _note(self, message):
        number = message.header.stamp.sec
        assert number not in self.decisions, f'part {number} is decided twice'
        self.decisions[number] = message.results[0].class_id

    def send(self, number, painted=False):
        """Let a part come by; its number is its stamp in seconds."""
        image, _ = generate_part(1000, 64)
        if painted:
            self.defective.add(number)
            image[10:22, 26:38] = (220, 40, 30)
        header = Header(stamp=Time(sec=number), frame_id='camera')
        self.trigger.publish(header)
        self.probe.images.publish(to_message(image, 'rgb8', header))

    def decision(self, number):
        return self.wait_for(lambda: self.decisions.get(number), what=f'a decision on {number}')


def test_no_part_passes_while_the_detector_is_dead_and_the_cell_resumes(
    start, make_probe, wait_for, model_file
):
    belt = Belt(make_probe(), wait_for)
    detector = {'camera__model': model_file, 'autostart': True, 'device': 'cpu', 'threads': 1}
    process = start('detector', **detector)
    start('rejecter', grouping='trigger', timeout=1.0)
    number = 1

    def passes():
        nonlocal number
        number += 1
        belt.send(number)
        return 'pass' in [decision for part, decision in belt.decisions.items() if part > last]

    last = 0
    wait_for(passes, 'a part that passes', seen=lambda: belt.decisions, pause=0.3)
    for painted in (False, True, False, True):
        number += 1
        belt.send(number, painted)
    assert belt.decision(number) == 'reject'

    process.kill()
    process.wait()
    died = number
    for painted in (False, True) * 3:
        number += 1
        belt.send(number, painted)
        time.sleep(0.2)
    while_dead = range(died + 1, number + 1)
    assert {belt.decision(part) for part in while_dead} == {'reject'}

    process = start('detector', **detector)
    last = number
    wait_for(
        passes, 'a part that passes', seen=lambda: belt.decisions, processes=[process], pause=0.3
    )
    assert not [part for part in belt.defective if belt.decisions.get(part) == 'pass']
    # From the first that was heard of on, every part has one decision.
    belt.decision(number)
    assert set(belt.decisions) == set(range(min(belt.decisions), number + 1))


def test_cameras_of_other_sizes_and_encodings_share_a_detector_process(
    start, make_probe, wait_for, model_file, as_encoding
):
    models = {f'{camera}.model': model_file for camera in ('front', 'side', 'top')}
    parameters = {'cameras': ['front', 'side', 'top'], 'side.transport': 'compressed', **models}
    start('detector', **parameters, autostart=True, device='cpu', threads=1)
    front, side, top = make_probe('front'), make_probe('side'), make_probe('top')
    image, _ = generate_part(1000, 64)
    image[10:22, 26:38] = (220, 40, 30)
    large = cv2.resize(image, (320, 240), interpolation=cv2.INTER_NEAREST)
    encodings = ['rgb8', 'bgr8', 'mono8', 'mono16', 'bayer_rggb8', 'padded bgr8']
    for number, encoding in enumerate(encodings, start=1):
        stamp = Header(stamp=Time(sec=number))
        verdict = top.verdict_for(as_encoding(large, encoding, stamp)).results[0].class_id
        # The model has seen colour only: what it says of grey images is another matter.
        assert verdict == 'defect' or encoding.startswith('mono'), encoding
        assert to_array(top.last('mask')).shape == (240, 320)
        assert front.verdict_for(to_message(image, 'rgb8', stamp)).results[0].class_id == 'defect'
        assert to_array(front.last('mask')).shape == (64, 64)
    publisher = side.node.create_publisher(CompressedImage, 'side/image/compressed', 10)
    for number, form in enumerate(('jpeg', 'png'), start=1):
        data = cv2.imencode(f'.{form}', large[..., ::-1])[1].tobytes()
        message = CompressedImage(header=Header(stamp=Time(sec=number)), format=form, data=data)

        def answered(message=message):
            publisher.publish(message)
            return [v for v in side.received.get('verdict', []) if v.header == message.header]

        (verdict, *_) = wait_for(answered, what=f'a verdict on a {form}')
        assert verdict.results[0].class_id == 'defect'


def test_a_model_of_a_new_part_is_captured_trained_and_loaded_and_finds_a_defect(
    start, make_probe, wait_for, tmp_path, tiny_options
):
    probe = make_probe()
    model = tmp_path / 'model.safetensors'
    common = {'device': 'cpu', 'threads': 1}
    detector = start('detector', camera__model=model, autostart=True, await_models=True, **common)
    trainer = start(
        'trainer',
        data=tmp_path / 'good',
        model=model,
        images=4,
        capture_interval=0.0,
        auto_train=True,
        detector='detector',
        options=[f'{name}={value}' for name, value in tiny_options.items()],
        **common,
    )
    wait_for(lambda: 'no model' in str(probe.statuses()), processes=[detector, trainer])
    client = probe.node.create_client(Trigger, 'trainer/capture')
    wait_for(client.service_is_ready)
    future = client.call_async(Trigger.Request())
    wait_for(future.done)
    indices = itertools.count(1)

    def is_trained():
        index = next(indices)
        image, _ = generate_part(index, 64)
        probe.images.publish(to_message(image, 'rgb8', Header(stamp=Time(sec=index))))
        return model.exists()

    wait_for(is_trained, 'a model', seen=probe.seen, processes=[detector, trainer], pause=0.1)
    image, _ = generate_part(1000, 64)
    good = to_message(image, 'rgb8', Header(stamp=Time(sec=10_001)))
    assert probe.verdict_for(good).results[0].class_id == 'ok'
    image[10:22, 26:38] = (220, 40, 30)
    painted = to_message(image, 'rgb8', Header(stamp=Time(sec=10_002)))
    assert probe.verdict_for(painted).results[0].class_id == 'defect'
