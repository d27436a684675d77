# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""cell.launch.py: two cells side by side; one is trained at the machine and loses its detector."""

import os
from pathlib import Path
import signal
import tempfile
import time
import unittest

import pytest

pytest.importorskip('launch_testing', reason='launch_testing is part of a ROS 2 installation')
pytest.importorskip('launch_ros', reason='launch_ros is part of a ROS 2 installation')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from flow_anomaly_ros import cli
from flow_anomaly_ros.data.generated import generate_part, write_dataset
from flow_anomaly_ros.data.image_messages import to_message
from flow_anomaly_ros.data.images import write_image
import launch
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification
from waiting import wait_for

# Longer than window and tolerance of the rejecter.
PART_PERIOD = 0.7
OPTIONS = ('backbone=pixels', 'flow_steps=20', 'stride=4', 'hidden=16')


def cell(namespace, grouping, source, folder, params):
    """cell.launch.py in a scope of its own, so that its arguments do not reach the other one."""
    include = launch.actions.IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare('flow_anomaly_ros'), 'launch', 'cell.launch.py'])
        ),
        launch_arguments={
            'namespace': namespace,
            'grouping': grouping,
            'cameras': 'front',
            'source': str(source),
            'folder': str(folder),
            'device': 'cpu',
            'trainer_params': str(params),
        }.items(),
    )
    return launch.actions.GroupAction([include])


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description():
    folder = Path(tempfile.mkdtemp(prefix='flow_anomaly_cell_'))
    good = write_dataset(folder / 'data', train=6, good=0, per_defect=0, size=64) / 'train' / 'good'
    (folder / 'painted').mkdir()
    write_image(folder / 'painted' / 'part.png', painted_part())
    model = folder / 'a' / 'front' / 'model.safetensors'
    model.parent.mkdir(parents=True)
    command = ['train', '--data', str(good), '--output', str(model), '--threads', '1', '--quiet']
    assert (
        cli.main([*command, *(argument for option in OPTIONS for argument in ('--set', option))])
        == 0
    )
    params = folder / 'trainer.yaml'
    params.write_text(
        '/**:\n'
        '  ros__parameters:\n'
        '    images: 4\n'
        '    capture_interval: 0.3\n'
        '    auto_train: true\n'
        f'    options: [{", ".join(OPTIONS)}]\n'
    )
    return launch.LaunchDescription(
        [
            cell('cell_a', 'window', folder / 'painted', folder / 'a', params),
            cell('cell_b', 'trigger', good, folder / 'b', params),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestCells(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rclpy.init()
        cls.node = rclpy.create_node('test_cell')
        # Decisions by the time of the part, in seconds.
        cls.painted, cls.good = {}, {}
        cls.progress = []
        for name, decisions in (('cell_a', cls.painted), ('cell_b', cls.good)):
            cls.node.create_subscription(
                Classification,
                f'{name}/rejecter/decision',
                lambda message, decisions=decisions: decisions.update(
                    {seconds(message.header): message.results[0].class_id}
                ),
                10,
            )
        cls.verdicts = {}
        cls.node.create_subscription(
            Classification,
            'cell_b/front/verdict',
            lambda message: cls.verdicts.update(
                {seconds(message.header): message.results[0].class_id}
            ),
            10,
        )
        cls.trigger = cls.node.create_publisher(Header, 'cell_b/trigger', 10)
        cls.images = cls.node.create_publisher(Image, 'cell_b/front/image', 10)
        cls.node.create_subscription(
            DiagnosticStatus,
            'cell_b/front_trainer/progress',
            lambda message: cls.progress.append(message.message),
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )

    @classmethod
    def tearDownClass(cls):
        cls.node.destroy_node()
        rclpy.shutdown()

    def wait_for(self, condition, what=''):
        def holds():
            if condition():
                return True
            rclpy.spin_once(self.node, timeout_sec=0.1)
            return False

        wait_for(holds, what, seen=lambda: (self.painted, self.good, self.progress), pause=0)

    def call(self, kind, name, request):
        client = self.node.create_client(kind, name)
        self.wait_for(client.service_is_ready, name)
        future = client.call_async(request)
        self.wait_for(future.done, f'an answer of {name}')
        self.node.destroy_client(client)
        return future.result()

    def announce(self):
        """Say that a part is there; returns when it was, in seconds."""
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id='part')
        self.trigger.publish(header)
        self.let_pass_by()
        return seconds(header)

    def let_pass_by(self):
        """Wait until what is seen now does not count for the next part."""
        end = time.monotonic() + PART_PERIOD
        self.wait_for(lambda: time.monotonic() > end)

    def test_1_a_trained_cell_rejects_a_defect_and_an_untrained_one_passes_parts_after_training(
        self,
    ):
        self.wait_for(lambda: self.painted, what='a decision on a painted part')
        part = self.announce()
        self.wait_for(lambda: part in self.good, what='a decision without a model')
        assert self.good[part] == 'reject'
        answer = self.call(Trigger, 'cell_b/front_trainer/capture', Trigger.Request())
        assert answer.success, answer.message
        self.wait_for(lambda: any('loaded' in text for text in self.progress), what='a model')
        self.wait_for(lambda: self.good.get(self.announce()) == 'pass', what='a part that passes')
        assert set(self.painted.values()) == {'reject'}
        # Taken at another time than the good ones that the cell sees meanwhile.
        header = Header(stamp=Time(sec=1), frame_id='part')

        def found():
            self.images.publish(to_message(painted_part(), 'rgb8', header))
            return self.verdicts.get(seconds(header))

        self.wait_for(found, what='a verdict on a painted part')
        assert found() == 'defect'

    def test_2_no_part_passes_without_a_detector_and_it_is_restarted(self):
        (pid,) = detectors_of('cell_b')
        os.kill(pid, signal.SIGKILL)
        # It may have seen a part that is announced at once.
        self.let_pass_by()
        first = self.announce()
        self.wait_for(lambda: first in self.good, what='a decision without a detector')
        assert self.good[first] == 'reject'
        self.wait_for(lambda: self.good.get(self.announce()) == 'pass', what='a part that passes')
        assert detectors_of('cell_b') != [pid]

    def test_3_an_invalid_parameter_is_refused_with_the_reason(self):
        value = RosParameter('on_missing', value='pass').to_parameter_msg()
        request = SetParameters.Request(parameters=[value])
        (result,) = self.call(SetParameters, 'cell_b/rejecter/set_parameters', request).results
        assert not result.successful
        assert 'reject, hold' in result.reason


def painted_part():
    """A generated part of 64 px with a patch of red paint on it."""
    part, _ = generate_part(1000, 64)
    part[10:22, 26:38] = (220, 40, 30)
    return part


def seconds(header):
    return header.stamp.sec + 1e-9 * header.stamp.nanosec


def detectors_of(namespace):
    """Process ids of the detectors of a cell."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_bytes().split(b'\0')
        except OSError:
            continue
        if b'__node:=detector' in words and f'__ns:=/{namespace}'.encode() in words:
            found.append(int(path.parent.name))
    return found


@launch_testing.post_shutdown_test()
class TestExitCodes(unittest.TestCase):
    def test_all_processes_end_cleanly(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0, -signal.SIGKILL])
