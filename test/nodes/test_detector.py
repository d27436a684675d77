# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The detector node, in this process, over DDS."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from flow_anomaly_ros.data.generated import generate_part
from flow_anomaly_ros.data.image_messages import score_map_to_array, to_array, to_message
from flow_anomaly_ros.nodes.detector import DetectorNode
from flow_anomaly_ros.runtime.engine import Engine
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import rclpy
from rclpy.exceptions import InvalidTopicNameException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

pytestmark = pytest.mark.ros

SUCCESS = TransitionCallbackReturn.SUCCESS


@pytest.fixture
def node(spinner, model_file):
    """A detector node with the tiny model, not configured yet."""
    node = spinner.add(DetectorNode())
    set_parameters(node, {'camera.model': str(model_file), 'device': 'cpu', 'threads': 1})
    return node


def set_parameters(node, values):
    return node.set_parameters([Parameter(name, value=value) for name, value in values.items()])


def part_message(defective=False, seconds=1):
    """A generated part, with a patch of red paint on it or without; and where the paint is."""
    image, _ = generate_part(1000, 64)
    truth = np.zeros(image.shape[:2], bool)
    if defective:
        truth[10:22, 26:38] = True
        image[truth] = (220, 40, 30)
    header = Header(stamp=Time(sec=seconds, nanosec=7), frame_id='camera_optical_frame')
    return to_message(image, 'rgb8', header), truth


def start(node):
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS


@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
def test_an_exported_model_inspects_too(node, exported_files, make_probe, suffix):
    set_parameters(node, {'camera.model': str(exported_files.with_suffix(suffix))})
    probe = make_probe()
    start(node)
    assert probe.verdict_for(part_message(True)[0]).results[0].class_id == 'defect'
    assert probe.verdict_for(part_message(False, 2)[0]).results[0].class_id == 'ok'


def test_a_defective_part_gives_mask_regions_and_verdict(node, make_probe):
    probe = make_probe()
    start(node)
    message, truth = part_message(True)
    verdict = probe.verdict_for(message)
    assert verdict.results[0].class_id == 'defect'

    mask = to_array(probe.last('mask'))
    assert mask.shape == truth.shape
    assert set(np.unique(mask)) <= {0, 255}
    assert (mask[truth] == 255).any(), 'the mask misses the defect'

    box = probe.last('defects').detections[0].bbox
    rows, columns = np.nonzero(truth)
    assert abs(box.center.position.x - columns.mean()) < 10
    assert abs(box.center.position.y - rows.mean()) < 10

    score_map = score_map_to_array(probe.last('score_map'))
    assert score_map[truth].mean() > score_map[~truth].mean()
    assert to_array(probe.last('overlay')).shape == (*truth.shape, 3)


def test_a_good_part_is_ok_and_has_no_regions(node, make_probe):
    probe = make_probe()
    start(node)
    message, _ = part_message()
    assert probe.verdict_for(message).results[0].class_id == 'ok'
    assert not probe.last('defects').detections
    assert not to_array(probe.last('mask')).any()


def test_headers_are_copied_whole(node, make_probe):
    probe = make_probe()
    start(node)
    message, _ = part_message(True)
    probe.verdict_for(message)
    for topic in ('verdict', 'defects', 'mask', 'score_map', 'overlay'):
        assert probe.last(topic).header == message.header
    assert probe.last('defects').detections[0].header == message.header


def test_the_lifecycle_can_be_walked_twice(node, make_probe):
    probe = make_probe()
    for seconds in (1, 2):
        start(node)
        assert probe.verdict_for(part_message(seconds=seconds)[0]).results
        assert node.trigger_deactivate() == SUCCESS
        assert node.trigger_cleanup() == SUCCESS


@pytest.fixture
def change_state(wait_for, make_probe):
    """Ask the node for a transition, as a lifecycle manager does; says whether it came about."""
    client = make_probe().node.create_client(ChangeState, 'detector/change_state')

    def call(number=0, label=''):
        wait_for(client.service_is_ready)
        transition = Transition(id=number, label=label)
        future = client.call_async(ChangeState.Request(transition=transition))
        return wait_for(future.done, what='an answer') and future.result().success

    return call


def test_a_transition_that_the_state_does_not_have_is_refused(node, change_state, make_probe):
    for _ in range(2):
        assert not change_state(Transition.TRANSITION_ACTIVATE)
        assert change_state(Transition.TRANSITION_CONFIGURE)
        assert not change_state(Transition.TRANSITION_CONFIGURE)
        assert change_state(Transition.TRANSITION_ACTIVATE)
        assert not change_state(Transition.TRANSITION_CONFIGURE)
        assert not change_state(Transition.TRANSITION_CLEANUP)
        assert not change_state(label='fly')
        assert change_state(Transition.TRANSITION_DEACTIVATE)
        assert change_state(label='cleanup')
    start(node)
    assert make_probe().verdict_for(part_message()[0]).results


@pytest.mark.parametrize(
    ('steps', 'shutdown'),
    [
        ((), Transition.TRANSITION_UNCONFIGURED_SHUTDOWN),
        ((Transition.TRANSITION_CONFIGURE,), Transition.TRANSITION_INACTIVE_SHUTDOWN),
        (
            (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE),
            Transition.TRANSITION_ACTIVE_SHUTDOWN,
        ),
    ],
)
def test_the_node_shuts_down_from_any_state_and_only_once(node, change_state, steps, shutdown):
    for step in steps:
        assert change_state(step)
    assert change_state(shutdown)
    assert not change_state(shutdown)
    assert not change_state(Transition.TRANSITION_CONFIGURE)


def test_simulated_time_that_stands_still_does_not_stop_the_node(node, make_probe):
    set_parameters(node, {'use_sim_time': True})
    start(node)
    probe = make_probe()
    assert probe.verdict_for(part_message()[0]).results
    assert probe.last('diagnostics').status


def test_an_inactive_node_inspects_nothing_and_comes_back(node, make_probe, wait_for):
    probe = make_probe()
    start(node)
    probe.verdict_for(part_message(seconds=1)[0])
    assert node.trigger_deactivate() == SUCCESS
    count = len(probe.received['verdict'])
    for _ in range(5):
        probe.images.publish(part_message(seconds=2)[0])
    wait_for(lambda: len(probe.received.get('diagnostics', [])) > 1)
    assert len(probe.received['verdict']) == count
    assert node.trigger_activate() == SUCCESS
    assert probe.verdict_for(part_message(seconds=3)[0]).results


@pytest.mark.parametrize('content', [None, b'no model'])
def test_configuring_fails_with_an_invalid_model_and_succeeds_with_a_valid_one(
    spinner, node, tmp_path, model_file, content
):
    path = tmp_path / 'model.safetensors'
    if content:
        path.write_bytes(content)
    set_parameters(node, {'camera.model': str(path)})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    set_parameters(node, {'camera.model': str(model_file)})
    start(node)


def bad_messages():
    message, _ = part_message(seconds=9)
    message.encoding = 'plaid8'
    yield 'encoding', message
    message, _ = part_message(seconds=9)
    message.height = 0
    yield 'zero size', message
    message, _ = part_message(seconds=9)
    message.step = 10
    yield 'step', message
    message, _ = part_message(seconds=9)
    message.data = message.data[:100]
    yield 'short data', message


@pytest.mark.parametrize(
    'message', [pytest.param(message, id=name) for name, message in bad_messages()]
)
def test_a_bad_image_is_reported_and_the_next_one_inspected(node, message, make_probe, wait_for):
    probe = make_probe()
    start(node)
    probe.verdict_for(part_message(seconds=1)[0])
    probe.images.publish(message)

    def error():
        return [
            status
            for array in probe.received.get('diagnostics', [])
            for status in array.status
            if status.level == DiagnosticStatus.ERROR
        ]

    (first, *_) = wait_for(error, what='an error in the diagnostics')
    assert '\n' not in first.message
    assert probe.verdict_for(part_message(seconds=2)[0]).results


def test_an_inspection_that_fails_is_reported_and_the_next_one_made(
    node, make_probe, wait_for, monkeypatch
):
    inspect, broken = Engine.inspect, [True]

    def fail(*arguments):
        if broken:
            raise RuntimeError('out of memory')
        return inspect(*arguments)

    probe = make_probe()
    start(node)
    monkeypatch.setattr(Engine, 'inspect', fail)

    def reported():
        probe.images.publish(part_message()[0])
        return probe.last('diagnostics').status[0].message.startswith('inspection failed: Runtime')

    wait_for(reported, what='the reason')
    broken.clear()
    assert probe.verdict_for(part_message(seconds=2)[0]).results


def test_a_best_effort_camera_is_received(node, make_probe):
    probe = make_probe(reliable=False)
    start(node)
    assert probe.verdict_for(part_message()[0]).results


def test_thresholds_change_at_run_time(node, make_probe):
    probe = make_probe()
    start(node)
    assert probe.verdict_for(part_message(True, 1)[0]).results[0].class_id == 'defect'
    assert set_parameters(
        node, {'camera.defect_threshold': 1e6, 'camera.uncertain_threshold': 1e5}
    )[0].successful
    assert probe.verdict_for(part_message(True, 2)[0]).results[0].class_id == 'ok'


def test_with_a_low_threshold_a_good_part_is_classified_as_defect(node, make_probe):
    probe = make_probe()
    start(node)
    score = probe.verdict_for(part_message()[0]).results[0].score
    assert set_parameters(node, {'camera.defect_threshold': 0.9 * score})[0].successful
    assert probe.verdict_for(part_message(seconds=2)[0]).results[0].class_id == 'defect'


def test_thresholds_that_contradict_each_other_are_refused_with_the_reason(spinner, node):
    start(node)
    assert set_parameters(node, {'camera.defect_threshold': 5.0})[0].successful
    result = set_parameters(node, {'camera.uncertain_threshold': 10.0})[0]
    assert not result.successful
    assert 'uncertain' in result.reason
    assert not set_parameters(node, {'camera.mask_rule': 'guess'})[0].successful


def test_a_bad_topic_is_refused_before_anything_is_started(spinner):
    values = {'camera.topic': '/usb-cam/image_raw'}
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    with pytest.raises(ValueError, match='usb-cam'):
        DetectorNode(parameter_overrides=overrides)


def test_exceptions_in_transitions_are_logged(node, monkeypatch):
    def fail(*_):
        raise RuntimeError('no\nmore threads')

    logged = []
    monkeypatch.setattr(type(node.get_logger()), 'error', lambda _, text: logged.append(text))
    monkeypatch.setattr('threading.Thread.start', fail)
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.ERROR
    assert logged == ['cannot activate: no more threads']


@pytest.mark.parametrize('names', [['left', 'left'], ['left cam'], ['']])
def test_bad_camera_names_are_refused(spinner, names):
    with pytest.raises((ValueError, InvalidTopicNameException)):
        DetectorNode(parameter_overrides=[Parameter('cameras', value=names)])


def test_a_topic_of_another_type_is_reported(spinner, node, make_probe, wait_for):
    probe = make_probe('other')
    camera = spinner.add(rclpy.create_node('camera'))
    publisher = camera.create_publisher(CompressedImage, 'camera/image', 10)
    set_parameters(node, {'lazy': False})
    start(node)
    wait_for(lambda: 'CompressedImage' in probe.last('diagnostics').status[0].message)
    assert probe.last('diagnostics').status[0].level == DiagnosticStatus.WARN
    camera.destroy_publisher(publisher)


def test_images_of_another_aspect_ratio_than_the_training_images_are_reported(
    node, make_probe, wait_for
):
    probe = make_probe()
    start(node)
    probe.verdict_for(to_message(np.zeros((64, 128, 3), np.uint8), 'rgb8', Header()))

    def status():
        found = probe.last('diagnostics').status[0]
        return found if 'distorted' in found.message else None

    found = wait_for(status, what='a warning')
    assert found.level == DiagnosticStatus.WARN
    assert found.message.startswith(
        'the aspect ratio of 128x64 px differs from training (64x64 px)'
    )


def test_a_publisher_of_another_type_does_not_disturb_the_camera(node, make_probe, wait_for):
    probe = make_probe()
    start(node)
    probe.verdict_for(part_message()[0])
    # As another process would be: one and the same cannot have both types.
    other = rclpy.Context()
    other.init()
    stranger = rclpy.create_node('stranger', context=other)
    stranger.create_publisher(CompressedImage, 'camera/image', 10)
    wait_for(lambda: len(node.get_publishers_info_by_topic('camera/image')) == 2)
    probe.last('diagnostics')
    count = len(probe.received['diagnostics'])
    wait_for(lambda: len(probe.received['diagnostics']) > count + 1)
    assert probe.verdict_for(part_message(seconds=2)[0]).results
    assert probe.last('diagnostics').status[0].level == DiagnosticStatus.OK
    stranger.destroy_node()
    other.shutdown()


def test_a_camera_without_subscribers_to_its_results_is_not_reported_as_silent(
    spinner, node, make_probe, wait_for
):
    probe = make_probe('other')
    wanted = probe.node.create_subscription(Image, 'camera/mask', lambda _: None, 10)
    start(node)
    wait_for(lambda: 'no publisher' in probe.last('diagnostics').status[0].message)
    probe.node.destroy_subscription(wanted)
    wait_for(lambda: 'no subscriber' in probe.last('diagnostics').status[0].message)
    assert probe.last('diagnostics').status[0].level == DiagnosticStatus.OK


def test_diagnostics_tell_counts_and_latency(node, make_probe, wait_for):
    probe = make_probe()
    start(node)
    probe.verdict_for(part_message(True)[0])

    def values():
        status = probe.last('diagnostics').status[0]
        found = {entry.key: entry.value for entry in status.values}
        return found if int(found['inspected']) > 0 else None

    found = wait_for(values, what='a count')
    assert found['backend'] == 'PyTorch on cpu'
    assert int(found['verdict defect']) >= 1
    assert float(found['total p95 (ms)']) >= float(found['total p50 (ms)']) > 0


def test_two_cameras_are_inspected_by_one_node(spinner, model_file, make_probe):
    node = spinner.add(
        DetectorNode(parameter_overrides=[Parameter('cameras', value=['left', 'right'])])
    )
    models = {f'{camera}.model': str(model_file) for camera in ('left', 'right')}
    set_parameters(node, {**models, 'device': 'cpu', 'threads': 1})
    left, right = make_probe('left'), make_probe('right')
    start(node)
    assert left.verdict_for(part_message()[0]).results[0].class_id == 'ok'
    assert right.verdict_for(part_message(True)[0]).results[0].class_id == 'defect'


def test_frames_of_cameras_with_one_model_are_one_batch(
    spinner, model_file, make_probe, wait_for, monkeypatch
):
    batches = []
    inspect = Engine.inspect

    def note(engine, images, *arguments):
        batches.append(len(images))
        # Meanwhile the next frame of each camera comes.
        time.sleep(0.3)
        return inspect(engine, images, *arguments)

    monkeypatch.setattr(Engine, 'inspect', note)
    cameras = ('left', 'right')
    node = spinner.add(DetectorNode(parameter_overrides=[Parameter('cameras', value=cameras)]))
    models = {f'{camera}.model': str(model_file) for camera in cameras}
    set_parameters(node, {**models, 'device': 'cpu', 'threads': 1, 'lazy': False})
    probes = [make_probe(camera) for camera in cameras]
    start(node)

    def show():
        for probe in probes:
            probe.images.publish(part_message()[0])
        time.sleep(0.05)
        return 2 in batches

    wait_for(show, what='a batch of two frames')


def test_nothing_is_inspected_while_nobody_subscribes(spinner, node, wait_for):
    camera = spinner.add(rclpy.create_node('camera'))
    images = camera.create_publisher(Image, 'camera/image', 10)
    start(node)
    # It looks every 0.2 s.
    time.sleep(1.0)
    assert not images.get_subscription_count()
    set_parameters(node, {'lazy': False})
    wait_for(images.get_subscription_count)
