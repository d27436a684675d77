# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Several cameras of one detector node: models, formats, problems and parameters of each."""

import dataclasses
import threading

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from flow_anomaly_ros.data.generated import generate_part
from flow_anomaly_ros.data.image_messages import to_array, to_message
from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.nodes.detector import DetectorNode
from flow_anomaly_ros.runtime.artifact import save_artifact
from flow_anomaly_ros.runtime.engine import Engine
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

pytestmark = pytest.mark.ros

SUCCESS = TransitionCallbackReturn.SUCCESS
PAINT = (slice(10, 22), slice(26, 38))


def picture(painted=False):
    """A generated part of 64 px, RGB, with a patch of red paint or without."""
    image, _ = generate_part(1000, 64)
    if painted:
        image[PAINT] = (220, 40, 30)
    return image


def header(seconds=1):
    return Header(stamp=Time(sec=seconds, nanosec=7), frame_id='camera_optical_frame')


def message_of(painted=False, seconds=1):
    return to_message(picture(painted), 'rgb8', header(seconds))


@pytest.fixture
def make_node(spinner, model_file):
    """Make an active detector of cameras that all have the tiny model."""

    def make(*cameras, **parameters):
        values = {f'{camera}.model': str(model_file) for camera in cameras}
        values |= {'cameras': list(cameras), 'device': 'cpu', 'threads': 1}
        values |= {name.replace('__', '.'): value for name, value in parameters.items()}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        node = spinner.add(DetectorNode(parameter_overrides=overrides))
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        return node

    return make


def set_parameter(node, name, value):
    return node.set_parameters([Parameter(name, value=value)])[0]


@pytest.fixture
def call_load_model(wait_for):
    """Call the detector's ~/load_model, or that of a camera; returns the future answer."""

    def call(probe, camera=''):
        client = probe.node.create_client(
            Trigger, f'detector/{camera}/load_model'.replace('//', '/')
        )
        wait_for(client.service_is_ready)
        return client.call_async(Trigger.Request())

    return call


@pytest.fixture
def load_model(call_load_model, wait_for):
    """Call the detector's ~/load_model, or that of a camera, and wait for the answer."""

    def call(probe, camera=''):
        answer = call_load_model(probe, camera)
        wait_for(answer.done, what='an answer')
        return answer.result()

    return call


def status_of(probe, camera):
    """The latest diagnostics of a camera."""
    statuses = [s for s in probe.last('diagnostics').status if s.hardware_id == camera]
    return statuses[0] if statuses else None


@pytest.mark.parametrize('encoding', ['bgr8', 'mono8', 'mono16', 'bayer_rggb8', 'padded bgr8'])
def test_cameras_of_other_sizes_and_encodings_go_through_one_model(
    make_node, make_probe, as_encoding, encoding
):
    make_node('front', 'side')
    front, side = make_probe('front'), make_probe('side')
    large = cv2.resize(picture(painted=True), (160, 160), interpolation=cv2.INTER_NEAREST)
    # The model has seen colour only: what it says of grey images is another matter.
    assert side.verdict_for(as_encoding(large, encoding, header())).results
    assert to_array(side.last('mask')).shape == (160, 160)
    assert front.verdict_for(message_of(painted=True)).results[0].class_id == 'defect'
    assert to_array(front.last('mask')).shape == (64, 64)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_compressed_images_are_inspected(make_node, make_probe, wait_for, suffix):
    make_node('front', front__transport='compressed')
    probe = make_probe('front')
    publisher = probe.node.create_publisher(CompressedImage, 'front/image/compressed', 10)
    _, data = cv2.imencode(suffix, picture(painted=True)[..., ::-1])
    message = CompressedImage(header=header(), format=suffix[1:], data=data.tobytes())

    def verdict():
        publisher.publish(message)
        return probe.received.get('verdict')

    assert wait_for(verdict)[0].results[0].class_id == 'defect'


def test_a_topic_of_any_name_can_be_given(make_node, make_probe):
    make_node('front', front__topic='usb_cam/image')
    # The probe's images go to usb_cam/image, its results come from front.
    images, results = make_probe('usb_cam'), make_probe('front')
    images.received = results.received
    assert images.verdict_for(message_of()).results


def test_each_camera_has_thresholds_of_its_own(make_node, make_probe):
    node = make_node('front', 'side')
    assert set_parameter(node, 'side.defect_threshold', 1e6).successful
    assert set_parameter(node, 'side.uncertain_threshold', 1e6).successful
    front, side = make_probe('front'), make_probe('side')
    assert front.verdict_for(message_of(painted=True)).results[0].class_id == 'defect'
    assert side.verdict_for(message_of(painted=True)).results[0].class_id == 'ok'


def test_a_silent_camera_is_reported_by_name_and_the_others_go_on(make_node, make_probe, wait_for):
    make_node('front', 'side', side__silence=0.5)
    front, side = make_probe('front'), make_probe('side')
    assert front.verdict_for(message_of()).results
    assert side.verdict_for(message_of()).results
    wait_for(lambda: 'silent' in status_of(side, 'side').message)
    assert status_of(side, 'side').level == DiagnosticStatus.WARN
    assert '/side/image' in status_of(side, 'side').message
    assert front.verdict_for(message_of(seconds=2)).results
    assert status_of(front, 'front').level == DiagnosticStatus.OK
    assert side.verdict_for(message_of(seconds=2)).results

    def recovered():
        side.images.publish(message_of(seconds=3))
        return status_of(side, 'side').level == DiagnosticStatus.OK

    wait_for(recovered, what='the end of the silence')


def test_a_change_of_size_or_encoding_is_reported_until_it_is_undone(
    make_node, make_probe, wait_for
):
    make_node('front', front__silence=0.0)
    probe = make_probe('front')
    probe.verdict_for(message_of())
    other = to_message(np.zeros((32, 32), np.uint8), 'mono8', header(2))
    probe.verdict_for(other)
    wait_for(lambda: '64x64 rgb8 to 32x32 mono8' in status_of(probe, 'front').message)
    assert status_of(probe, 'front').level == DiagnosticStatus.WARN
    probe.verdict_for(message_of(seconds=3))
    wait_for(lambda: status_of(probe, 'front').level == DiagnosticStatus.OK)


def test_a_second_publisher_with_another_qos_is_received(make_node, make_probe, wait_for):
    make_node('front')
    probe = make_probe('front')
    probe.verdict_for(message_of())
    best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    second = probe.node.create_publisher(Image, 'front/image', best_effort)
    message = message_of(seconds=2)

    def answered():
        second.publish(message)
        return [v for v in probe.received['verdict'] if v.header == message.header]

    wait_for(answered, what='a verdict on an image of the second publisher')


def test_the_class_of_parts_changes_while_they_are_inspected(
    make_node, make_probe, wait_for, class_model_file
):
    node = make_node('front', front__model=str(class_model_file))
    probe = make_probe('front')
    (part, blank) = Engine.load(class_model_file, 'cpu').manifest.classes

    def value(key):
        return next(entry.value for entry in status_of(probe, 'front').values if entry.key == key)

    probe.verdict_for(message_of())
    wait_for(lambda: value('class') == part.name, what='the class that is estimated')
    assert set_parameter(node, 'front.part_class', blank.name).successful
    seen = len(probe.received['diagnostics'])
    probe.verdict_for(message_of(seconds=2))
    wait_for(lambda: len(probe.received['diagnostics']) > seen + 1)
    assert value('class') == blank.name
    answer = set_parameter(node, 'front.part_class', 'nut')
    assert not answer.successful
    assert "the model has no class 'nut': it has part, blank" in answer.reason
    # What is not taken changes nothing.
    assert node.parameters is not None
    assert probe.verdict_for(message_of(seconds=3)).results


def test_load_model_swaps_the_model_of_a_camera(
    make_node, make_probe, load_model, training, tmp_path, monkeypatch
):
    closed = []
    close = Engine.close
    monkeypatch.setattr(Engine, 'close', lambda engine: closed.append(engine) or close(engine))
    node = make_node('front', 'side')
    front, side = make_probe('front'), make_probe('side')
    assert front.verdict_for(message_of(painted=True)).results[0].class_id == 'defect'
    (part_class,) = training.manifest.classes
    limits = part_class.thresholds.override(defect=1e6, uncertain=1e6)
    tolerant = tmp_path / 'tolerant.safetensors'
    manifest = dataclasses.replace(
        training.manifest, classes=(dataclasses.replace(part_class, thresholds=limits),)
    )
    save_artifact(tolerant, training.detector, manifest)
    assert set_parameter(node, 'front.model', str(tolerant)).successful
    answer = load_model(front)
    assert answer.success
    assert answer.message == f'front: loaded {tolerant}'
    assert front.verdict_for(message_of(painted=True, seconds=2)).results[0].class_id == 'ok'
    assert side.verdict_for(message_of(painted=True, seconds=2)).results[0].class_id == 'defect'
    assert not closed, 'the other camera has it still'

    # The same path with another content, as a training leaves it.
    save_artifact(tolerant, training.detector, training.manifest)
    assert load_model(front).success
    assert front.verdict_for(message_of(painted=True, seconds=3)).results[0].class_id == 'defect'
    assert load_model(front).message == 'no model file has changed'
    assert len(closed) == 1


def test_a_model_that_does_not_load_leaves_the_old_one_inspecting(
    make_node, make_probe, load_model, tmp_path, model_file
):
    node = make_node('front')
    probe = make_probe('front')
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(model_file.read_bytes()[:1000])
    set_parameter(node, 'front.model', str(broken))
    answer = load_model(probe)
    assert not answer.success
    assert str(broken) in answer.message
    assert '\n' not in answer.message
    assert probe.verdict_for(message_of(painted=True)).results[0].class_id == 'defect'
    assert status_of(probe, 'front').level == DiagnosticStatus.OK


def test_a_broken_model_of_one_camera_does_not_prevent_loading_those_of_the_others(
    make_node, make_probe, load_model, tmp_path, model_file
):
    files = {camera: tmp_path / f'{camera}.safetensors' for camera in ('front', 'side', 'top')}
    for file in files.values():
        file.write_bytes(model_file.read_bytes())
    make_node(*files, **{f'{camera}__model': str(file) for camera, file in files.items()})
    front, side, top = (make_probe(camera) for camera in files)
    files['front'].write_bytes(model_file.read_bytes())
    files['side'].write_bytes(b'broken')
    files['top'].unlink()
    answer = load_model(front)
    assert not answer.success
    assert f'front: loaded {files["front"]}' in answer.message
    assert f'camera side: {files["side"]}' in answer.message
    assert f'top: {files["top"]} no longer exists; its model is kept' in answer.message
    for probe in (front, side, top):
        assert probe.verdict_for(message_of(painted=True)).results[0].class_id == 'defect'


@pytest.fixture
def slow_loading(monkeypatch):
    """Have models load for ever: events for 'a load has begun' and 'it may end'."""
    begun, may_end = threading.Event(), threading.Event()
    warm_up = Engine.warm_up

    def slowly(engine):
        begun.set()
        may_end.wait()
        warm_up(engine)

    # Called where the models that load at once are there.
    def start():
        monkeypatch.setattr(Engine, 'warm_up', slowly)
        return begun, may_end

    yield start
    may_end.set()


def test_images_are_inspected_while_a_model_is_loaded(
    make_node, make_probe, call_load_model, wait_for, tmp_path, model_file, slow_loading
):
    model = tmp_path / 'model.safetensors'
    model.write_bytes(model_file.read_bytes())
    make_node('front', front__model=str(model))
    probe = make_probe('front')
    probe.verdict_for(message_of())
    begun, may_end = slow_loading()
    model.write_bytes(model_file.read_bytes())
    answer = call_load_model(probe)
    wait_for(begun.is_set, what='a load')
    for seconds in (2, 3):
        verdict = probe.verdict_for(message_of(painted=True, seconds=seconds))
        assert verdict.results[0].class_id == 'defect'
    assert not answer.done()
    may_end.set()
    wait_for(answer.done, what='an answer')
    assert answer.result().message == f'front: loaded {model}'


def test_cleanup_during_loading_leaves_no_model_loaded(
    make_node, make_probe, call_load_model, load_model, wait_for, tmp_path, model_file, slow_loading
):
    model = tmp_path / 'model.safetensors'
    model.write_bytes(model_file.read_bytes())
    node = make_node('front', 'side', side__model=str(model))
    probe = make_probe('front')
    probe.verdict_for(message_of())
    begun, may_end = slow_loading()
    model.write_bytes(model_file.read_bytes())
    answer = call_load_model(probe)
    wait_for(begun.is_set, what='a load')
    assert node.trigger_deactivate() == SUCCESS
    threading.Timer(1.0, may_end.set).start()
    assert node.trigger_cleanup() == SUCCESS
    wait_for(answer.done, what='an answer')
    assert all(camera.engine is None for camera in node._cameras)
    assert 'not configured' in load_model(probe).message
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    assert probe.verdict_for(message_of(seconds=2)).results[0].class_id == 'ok'


def test_a_camera_without_a_model_waits_for_one(
    make_node, make_probe, load_model, wait_for, model_file
):
    node = make_node('front', front__model='')
    probe = make_probe('front')
    wait_for(lambda: 'no model' in status_of(probe, 'front').message)
    set_parameter(node, 'front.model', str(model_file))
    assert load_model(probe).success
    assert probe.verdict_for(message_of()).results[0].class_id == 'ok'


def test_await_models_waits_for_a_model_file_that_does_not_exist_yet(
    make_node, make_probe, load_model, tmp_path, model_file
):
    path = tmp_path / 'model.safetensors'
    make_node('front', 'side', front__model=str(path), await_models=True)
    front, side = make_probe('front'), make_probe('side')
    assert side.verdict_for(message_of()).results
    answer = load_model(front)
    assert not answer.success
    assert answer.message == f'front: no model file at {path} yet'
    path.write_bytes(model_file.read_bytes())
    assert load_model(front).message == f'front: loaded {path}'
    assert front.verdict_for(message_of()).results[0].class_id == 'ok'
    # A model that inspects is not lost with its file.
    path.unlink()
    answer = load_model(front)
    assert answer.success
    assert 'no longer exists' in answer.message
    assert front.verdict_for(message_of(seconds=2)).results


def test_the_model_of_one_camera_is_loaded_even_if_another_cannot_be(
    make_node, make_probe, load_model, tmp_path, model_file
):
    node = make_node('front', 'side')
    probe = make_probe('front')
    set_parameter(node, 'side.model', str(tmp_path / 'absent.safetensors'))
    path = tmp_path / 'model.safetensors'
    path.write_bytes(model_file.read_bytes())
    set_parameter(node, 'front.model', str(path))
    answer = load_model(probe, 'front')
    assert answer.success
    assert answer.message == f'front: loaded {path}'
    assert not load_model(probe, 'side').success
    assert not load_model(probe).success


def test_with_await_models_a_broken_model_does_not_stop_the_other_cameras(
    make_node, make_probe, load_model, wait_for, tmp_path, model_file
):
    path = tmp_path / 'model.safetensors'
    path.write_bytes(model_file.read_bytes()[:1000])
    make_node('front', 'side', front__model=str(path), await_models=True)
    front, side = make_probe('front'), make_probe('side')
    assert side.verdict_for(message_of()).results
    wait_for(lambda: str(path) in status_of(front, 'front').message)
    assert status_of(front, 'front').level == DiagnosticStatus.ERROR
    path.write_bytes(model_file.read_bytes())
    assert load_model(front).message == f'front: loaded {path}'
    assert front.verdict_for(message_of()).results[0].class_id == 'ok'
    wait_for(lambda: status_of(front, 'front').level == DiagnosticStatus.OK)


def test_defects_outside_the_region_of_interest_are_ignored(make_node, make_probe, tmp_path):
    node = make_node('front')
    probe = make_probe('front')
    assert probe.verdict_for(message_of(painted=True)).results[0].class_id == 'defect'
    roi = np.full((64, 64), 255, np.uint8)
    roi[:32] = 0
    write_image(tmp_path / 'roi.png', roi)
    assert set_parameter(node, 'front.roi', str(tmp_path / 'roi.png')).successful
    message = message_of(painted=True, seconds=2)
    assert probe.verdict_for(message).results[0].class_id == 'ok'
    assert not to_array(probe.last('mask')).any()

    refused = set_parameter(node, 'front.roi', '~nobody_at_all/roi.png')
    assert not refused.successful
    assert 'home directory' in refused.reason
    refused = set_parameter(node, 'front.roi', str(tmp_path / 'none.png'))
    assert not refused.successful
    assert 'none.png' in refused.reason
    write_image(tmp_path / 'wide.png', np.full((32, 64), 255, np.uint8))
    assert set_parameter(node, 'front.roi', str(tmp_path / 'wide.png')).successful


@pytest.mark.parametrize(('width', 'height'), [(64, 32), (32, 64)])
def test_a_region_of_interest_of_another_aspect_ratio_is_reported(
    make_node, make_probe, wait_for, tmp_path, width, height
):
    write_image(tmp_path / 'roi.png', np.full((height, width), 255, np.uint8))
    make_node('front', front__roi=str(tmp_path / 'roi.png'))
    probe = make_probe('front')

    def reported():
        probe.images.publish(message_of())
        return f'{width}x{height} px' in status_of(probe, 'front').message

    wait_for(reported, what='the reason')
    assert status_of(probe, 'front').level == DiagnosticStatus.ERROR
    assert 'verdict' not in probe.received


def test_a_disabled_camera_is_not_inspected(make_node, make_probe, wait_for):
    node = make_node('front')
    probe = make_probe('front')
    probe.verdict_for(message_of())
    assert set_parameter(node, 'front.enabled', False).successful
    wait_for(lambda: not probe.images.get_subscription_count())
    wait_for(lambda: status_of(probe, 'front').message == 'disabled: parameter enabled is false')
    assert set_parameter(node, 'front.enabled', True).successful
    assert probe.verdict_for(message_of(seconds=2)).results


def test_pictures_can_be_switched_off(make_node, make_probe):
    node = make_node('front', front__publish_overlay=False)
    probe = make_probe('front')
    probe.verdict_for(message_of())
    assert probe.last('mask')
    assert set_parameter(node, 'front.publish_mask', False).successful
    count = len(probe.received['mask'])
    probe.verdict_for(message_of(seconds=2))
    assert len(probe.received['mask']) == count
    assert 'overlay' not in probe.received


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('front.min_area', 0, 'range'),
        ('front.min_area', 'many', 'type'),
        ('front.transport', 'compressed', 'read-only'),
        ('front.mask_rule', 'guess', 'must be one of calibrated, mean, half'),
        ('front.uncertain_threshold', 1e8, 'camera front: threshold uncertain'),
    ],
)
def test_bad_values_are_refused_with_the_reason(make_node, name, value, reason):
    node = make_node('front', front__defect_threshold=5.0)
    before = node.get_parameter(name).value
    result = set_parameter(node, name, value)
    assert not result.successful
    assert reason in result.reason
    assert node.get_parameter(name).value == before


def test_dropped_frames_are_counted(make_node, make_probe, wait_for):
    make_node('front')
    probe = make_probe('front')
    probe.verdict_for(message_of())
    wait_for(lambda: 'inspected' in {v.key for v in status_of(probe, 'front').values})
    sent = 60
    before = _counted(status_of(probe, 'front'))
    for index in range(sent):
        probe.images.publish(message_of(seconds=10 + index))
    wait_for(lambda: _counted(status_of(probe, 'front')) - before >= sent)


def _counted(status):
    values = {entry.key: entry.value for entry in status.values}
    return sum(int(values[key]) for key in ('inspected', 'dropped', 'lost', 'failed'))
