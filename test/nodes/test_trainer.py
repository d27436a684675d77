# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The trainer node over DDS: capture, train, cancel, accept, load."""

import itertools
from pathlib import Path
import shutil
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from flow_anomaly_ros import demo
from flow_anomaly_ros.data.generated import generate_part
from flow_anomaly_ros.data.image_messages import to_message
from flow_anomaly_ros.data.images import list_images
from flow_anomaly_ros.nodes.detector import DetectorNode
from flow_anomaly_ros.nodes.trainer import TrainerNode
from flow_anomaly_ros.runtime.artifact import load_artifact
import numpy as np
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification, ObjectHypothesis

pytestmark = [pytest.mark.ros, pytest.mark.slow]

NUMBERS = itertools.count()


def part(index, painted=False):
    """A camera message of a generated part of 64 px, taken at `index` seconds."""
    image, _ = generate_part(index, 64)
    if painted:
        image[10:22, 26:38] = (220, 40, 30)
    return to_message(image, 'rgb8', Header(stamp=Time(sec=index), frame_id='camera'))


class Machine:
    """A trainer, and who calls it."""

    def __init__(self, node, probe, wait_for):
        self.node, self.probe, self.wait_for = node, probe, wait_for
        self.progress = []
        self.camera = node.parameters.camera
        self.model = Path(node.parameters.model)
        self.listen()

    def listen(self):
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.probe.node.create_subscription(
            DiagnosticStatus, 'trainer/progress', self.hear, latched
        )

    def hear(self, status):
        # The last words of the trainer of the test before may still be around.
        if status.hardware_id == self.camera:
            self.progress.append(status)

    def call(self, name):
        client = self.probe.node.create_client(Trigger, f'trainer/{name}')
        self.wait_for(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        return self.wait_for(lambda: future.done() and future.result(), what='an answer')

    def until(self, text):
        """Wait for progress that begins with something: paths in it hold any word."""

        def reported():
            return [status for status in self.progress if status.message.startswith(text)]

        return self.wait_for(reported, repr(text), seen=lambda: self.progress[-1:])[0]

    def show(self, count, first=1):
        """Publish parts until so many images of good parts are there."""
        folder = Path(self.node.parameters.data)
        indices = itertools.count(first)

        def are_there():
            if folder.is_dir() and len(list_images(folder)) >= count:
                return True
            self.probe.images.publish(part(next(indices)))
            return False

        self.wait_for(are_there, f'{count} images of good parts', pause=0.05)

    def accept(self, image, text):
        """Have an image rejected and accepted; waits for an answer that says something."""
        results = [ObjectHypothesis(class_id='defect')]
        verdict = Classification(header=image.header, results=results)
        topic = f'{self.camera}/verdict'
        verdicts = self.probe.node.create_publisher(Classification, topic, 10)

        def answered():
            self.probe.images.publish(image)
            verdicts.publish(verdict)
            return text in self.call('accept_last').message

        self.wait_for(answered, what=repr(text))


@pytest.fixture
def children(monkeypatch):
    """Arguments and priority of each process that a trainer starts; none does anything."""
    started = []

    def start(*arguments):
        started.append(arguments)
        return SimpleNamespace(poll=lambda: 0, steps=list, message='', stop=lambda: None)

    monkeypatch.setattr('flow_anomaly_ros.nodes.trainer.CommandProcess', start)
    return started


@pytest.fixture
def make_machine(spinner, make_probe, wait_for, tmp_path, tiny_options):
    """Make a trainer of a camera of its own."""

    def make(**parameters):
        camera = f'camera_{next(NUMBERS)}'
        options = tiny_options | {'flow_steps': 4}
        values = {
            'backbone': options.pop('backbone'),
            'camera': camera,
            'data': str(tmp_path / 'good'),
            'model': str(tmp_path / 'model.safetensors'),
            'images': 4,
            'capture_interval': 0.0,
            'options': [f'{name}={value}' for name, value in options.items()],
            'device': 'cpu',
            'priority': 0,
        } | parameters
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        node = spinner.add(TrainerNode(parameter_overrides=overrides))
        return Machine(node, make_probe(camera), wait_for)

    return make


def test_a_model_is_captured_and_trained_and_late_subscribers_get_the_result(make_machine):
    machine = make_machine(tile=64)
    assert (
        machine.call('capture').message == f'capturing the next 4 images of /{machine.camera}/image'
    )
    assert 'busy capturing' in machine.call('train').message
    machine.show(4)
    machine.until('captured 4 images')
    assert machine.call('train').message == 'training on 4 images'
    assert 'busy training' in machine.call('capture').message
    machine.wait_for(lambda: any(status.values for status in machine.progress), what='a step')
    step = next(status for status in machine.progress if status.values)
    assert step.message == 'training'
    values = {entry.key: entry.value for entry in step.values}
    assert values.keys() == {'stage', 'step', 'steps', 'loss', 'seconds_left'}
    assert 'trained restoration on 4 images' in machine.until('done').message
    _, manifest = load_artifact(machine.model)
    assert manifest.training['images'] == 4
    assert manifest.tile == 64
    machine.progress.clear()
    machine.listen()
    machine.until('done')


def test_a_cancelled_training_resumes_from_its_checkpoints(make_machine, tmp_path):
    kept = tmp_path / 'checkpoints'
    machine = make_machine(checkpoints=str(kept))
    machine.call('capture')
    machine.show(4)
    machine.until('captured 4 images')
    machine.call('train')
    machine.wait_for(lambda: any(kept.glob('*.checkpoint')), what='a checkpoint')
    machine.call('cancel')
    machine.until('cancelled')
    done = len([*kept.glob('*.checkpoint')])
    assert done
    machine.progress.clear()
    machine.call('train')
    machine.until('done')
    steps = [{entry.key: entry.value for entry in step.values} for step in machine.progress]
    # Stages that were over are reported once, with their last step.
    first = next(step for step in steps if step)
    assert first['step'] == first['steps']
    assert not kept.exists()


def test_images_are_taken_no_faster_than_asked(make_machine):
    machine = make_machine(images=3, capture_interval=0.5)
    machine.call('capture')
    started = time.monotonic()
    machine.show(3)
    assert time.monotonic() - started >= 1.0


def test_the_node_captures_and_trains_at_start(make_machine):
    machine = make_machine(auto_capture=True, auto_train=True)
    machine.show(4)
    machine.until('done')
    assert machine.model.is_file()


def test_existing_images_and_models_are_not_captured_or_trained_again(
    make_machine, children, parts, tmp_path
):
    shutil.copytree(parts / 'train' / 'good', tmp_path / 'good')
    (tmp_path / 'model.safetensors').touch()
    count = len(list_images(tmp_path / 'good'))
    machine = make_machine(auto_capture=True, auto_train=True, images=count)
    machine.until(f'idle, {count} images of good parts')
    assert not children
    machine = make_machine(auto_capture=True, auto_train=True, images=count + 2)
    machine.until('capturing 0 of 2')


def test_trainings_and_calibrations_are_done_as_the_parameters_say(
    make_machine, children, parts, tmp_path
):
    shutil.copytree(parts / 'train' / 'good', tmp_path / 'good')
    values = {'method': 'timenet', 'backbone': 'mobilenet_v2', 'weights': 'w.pth', 'tile': 64}
    values |= {'checkpoints': 'kept', 'image_size': 128, 'false_positive_rate': 0.02, 'seed': 3}
    machine = make_machine(**values, threads=2, priority=7, part_class='nut')
    machine.call('train')
    arguments, priority = children.pop()
    given = dict(itertools.pairwise(arguments))
    assert 'backbone="mobilenet_v2"' in arguments
    del values['backbone']
    for name, value in (values | {'threads': 2, 'device': 'cpu'}).items():
        assert given[f'--{name.replace("_", "-")}'] == str(value)
    assert priority == 7
    machine.until('done')
    machine.model.touch()
    machine.accept(part(7), 'accepted as')
    arguments, priority = children.pop()
    given = dict(itertools.pairwise(arguments))
    assert (given['--class'], given['--threads'], given['--device']) == ('nut', '2', 'cpu')
    assert priority == 7


def test_no_model_is_loaded_if_load_is_false(make_machine, children, parts):
    machine = make_machine(detector='detector', load=False, data=str(parts / 'train' / 'good'))
    machine.call('train')
    machine.until('done')
    assert machine.call('cancel').message == 'there is nothing to cancel'
    assert children
    assert not [*machine.node.clients]


def test_a_part_of_a_camera_without_stamps_cannot_be_accepted(make_machine, children):
    machine = make_machine()
    machine.model.touch()
    unstamped = part(1)
    unstamped.header.stamp = Time()
    machine.accept(unstamped, 'have no stamps')
    assert not children


def test_good_parts_are_taken_from_a_recording(make_machine, tmp_path):
    rosbag2 = pytest.importorskip('rosbags.rosbag2')
    typesys = pytest.importorskip('rosbags.typesys')
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    kind = 'sensor_msgs/msg/Image'
    with rosbag2.Writer(tmp_path / 'bag', version=9) as writer:
        connection = writer.add_connection('/line/image', kind, typestore=store)
        for index in range(1, 9):
            # Of one format on the wire and in a recording.
            writer.write(connection, index * 10**9, serialize_message(part(index)))
    machine = make_machine(topic='/line/image', bag=str(tmp_path / 'bag'), auto_train=True)
    assert 'extracting 4 images of /line/image' in machine.call('capture').message
    machine.until('done')
    assert load_artifact(machine.model)[1].training['images'] == 4


def test_images_of_another_format_are_skipped_and_reported(make_machine):
    machine = make_machine()
    machine.call('capture')
    machine.show(1)
    grey = to_message(np.zeros((32, 32), np.uint8), 'mono8', Header(stamp=Time(sec=1000)))
    machine.probe.images.publish(grey)
    assert '32x32 px grey' in machine.until('capturing 1 of 4; skipped an image').message
    machine.show(4, first=2000)
    machine.until('captured 4')


def test_images_without_a_timestamp_are_stamped_on_arrival(make_machine):
    machine = make_machine()
    machine.call('capture')
    unstamped = part(1)
    unstamped.header.stamp = Time()

    def published():
        machine.probe.images.publish(unstamped)
        return any(status.message.startswith('captured 4') for status in machine.progress)

    machine.wait_for(published, what='four images')


def test_waiting_for_a_detector_can_be_cancelled(make_machine, monkeypatch):
    monkeypatch.setattr('flow_anomaly_ros.nodes.model_client.SERVICE_TIMEOUT_S', 600.0)
    machine = make_machine(detector='/elsewhere/detector', auto_capture=True, auto_train=True)
    machine.show(4)
    machine.until('done')
    assert 'busy loading' in machine.call('train').message
    assert machine.call('cancel').success
    assert 'busy' not in machine.call('train').message


def test_without_recent_images_the_trainer_does_not_subscribe_to_verdicts(make_machine):
    for count in (0, 1):
        machine = make_machine(recent_images=count)
        topics = [subscription.topic_name for subscription in machine.node.subscriptions]
        assert topics.count(f'/{machine.camera}/verdict') == count


def test_a_capture_can_be_cancelled(make_machine, children):
    machine = make_machine(images=100)
    assert machine.call('cancel').message == 'there is nothing to cancel'
    machine.call('capture')
    machine.show(1)
    answer = machine.call('cancel').message
    count = len(list_images(Path(machine.node.parameters.data)))
    assert answer == f'capture cancelled; the {count} captured images are kept'
    assert machine.call('train').message == f'training on {count} images'
    assert children


def test_a_training_that_is_stopped_leaves_no_process_and_no_file(make_machine, tmp_path):
    machine = make_machine(options=['flow_steps=1000000'])
    assert 'call ~/capture first' in machine.call('train').message
    machine.call('capture')
    machine.show(4)
    machine.until('captured')
    machine.call('train')
    machine.wait_for(lambda: any(status.values for status in machine.progress), what='a step')
    pid = machine.node._process.pid
    assert 'busy training' in machine.call('accept_last').message
    assert machine.call('cancel').success
    machine.until('cancelled')
    assert not Path(f'/proc/{pid}').exists()
    assert [path.name for path in tmp_path.iterdir()] == ['good']


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [({'options': ['flow_steps=many']}, 'flow_steps'), ({'tile': 128}, 'tile is 128 px')],
)
def test_a_training_that_fails_says_why_in_one_line(make_machine, parameters, reason):
    machine = make_machine(**parameters)
    machine.call('capture')
    machine.show(4)
    machine.until('captured')
    machine.call('train')
    failed = machine.until('failed')
    assert failed.level == DiagnosticStatus.ERROR
    assert reason in failed.message
    assert '\n' not in failed.message


def test_accept_last_recalibrates_and_the_detector_loads_the_model(
    make_machine, spinner, model_file
):
    machine = make_machine(detector='detector')
    assert 'rejected' in machine.call('accept_last').message
    machine.model.write_bytes(model_file.read_bytes())
    values = {
        'cameras': [machine.camera],
        f'{machine.camera}.model': str(machine.model),
        'device': 'cpu',
        'threads': 1,
    }
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    detector = spinner.add(DetectorNode(parameter_overrides=overrides))
    detector.trigger_configure()
    detector.trigger_activate()
    image = part(7, painted=True)
    assert machine.probe.verdict_for(image).results[0].class_id == 'defect'
    machine.model.write_bytes(b'')
    assert machine.call('accept_last').success
    machine.until('failed')
    # Nothing was lost: it can be accepted again.
    machine.model.write_bytes(model_file.read_bytes())
    answer = machine.call('accept_last')
    assert answer.success, answer.message
    machine.until('detector detector: ')
    later = part(8, painted=True)
    later.data = image.data
    assert machine.probe.verdict_for(later).results[0].class_id == 'ok'


def test_a_missing_detector_is_reported_and_the_model_is_kept(make_machine, monkeypatch):
    monkeypatch.setattr('flow_anomaly_ros.nodes.model_client.SERVICE_TIMEOUT_S', 0.5)
    machine = make_machine(detector='/elsewhere/detector', auto_capture=True, auto_train=True)
    machine.show(4)
    status = machine.until('detector /elsewhere/detector was not found')
    assert status.level == DiagnosticStatus.ERROR
    assert machine.model.is_file()


def test_the_training_ends_with_the_trainer(tmp_path, make_probe, wait_for, parts):
    probe = make_probe()
    process = demo.start(
        'trainer',
        {
            'data': parts / 'train' / 'good',
            'model': tmp_path / 'model.safetensors',
            'options': ['backbone=pixels', 'flow_steps=1000000'],
            'device': 'cpu',
        },
    )
    try:
        client = probe.node.create_client(Trigger, 'trainer/train')
        wait_for(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        wait_for(future.done)
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
        (child,) = wait_for(lambda: children.read_text().split())
        time.sleep(1.0)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not Path(f'/proc/{child}').exists() or _is_zombie(child), what='its end')
    assert not (tmp_path / 'model.safetensors').exists()


def _is_zombie(pid):
    return Path(f'/proc/{pid}/stat').read_text().rpartition(') ')[2].startswith('Z')


def test_an_invalid_detector_name_is_refused(make_machine):
    machine = make_machine()
    answer = machine.node.set_parameters([Parameter('detector', value='the detector')])[0]
    assert not answer.successful
    assert 'must not contain characters' in answer.reason
    assert len(answer.reason.splitlines()) == 1
    with pytest.raises(ValueError, match='the detector'):
        make_machine(detector='the detector')
