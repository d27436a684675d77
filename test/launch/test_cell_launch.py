# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""cell.launch.py: two cells side by side; one is trained at the machine, one loses its detector."""

import os
from pathlib import Path
import signal
import tempfile
import time
import unittest

import pytest

pytest.importorskip('launch_testing', reason='launch_testing is part of a ROS 2 installation')
pytest.importorskip('launch_ros', reason='launch_ros is part of a ROS 2 installation')

from diagnostic_msgs.msg import DiagnosticStatus
from flow_anomaly_ros import cli
from flow_anomaly_ros.data.generated import generate_part, write_dataset
from flow_anomaly_ros.data.images import write_image
import launch
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification

TIMEOUT = 60.0
# Seconds in which a detector that has died has to inspect again.
RESTART = 10.0
OPTIONS = ('flow_steps=20', 'stride=4', 'hidden=16')


def cell(namespace, source, folder, params):
    """cell.launch.py in a scope of its own, so that its arguments do not reach the other one."""
    include = launch.actions.IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare('flow_anomaly_ros'), 'launch', 'cell.launch.py'])
        ),
        launch_arguments={
            'namespace': namespace,
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
    part, _ = generate_part(1000, 64)
    part[10:22, 26:38] = (220, 40, 30)
    (folder / 'painted').mkdir()
    write_image(folder / 'painted' / 'part.png', part)
    model = folder / 'a' / 'front' / 'model.safetensors'
    model.parent.mkdir(parents=True)
    command = ['train', '--data', str(good), '--output', str(model), '--threads', '1', '--quiet']
    assert cli.main([*command, *(one for option in OPTIONS for one in ('--set', option))]) == 0
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
            cell('cell_a', folder / 'painted', folder / 'a', params),
            cell('cell_b', good, folder / 'b', params),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestCells(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rclpy.init()
        cls.node = rclpy.create_node('test_cell')
        cls.decisions = {'cell_a': [], 'cell_b': []}
        cls.progress = []
        for name, decisions in cls.decisions.items():
            cls.node.create_subscription(
                Classification,
                f'{name}/rejecter/decision',
                lambda message, decisions=decisions: decisions.append(message.results[0].class_id),
                10,
            )
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

    def wait_for(self, condition, timeout=TIMEOUT, what=''):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f'waited {timeout} s for {what}'
            rclpy.spin_once(self.node, timeout_sec=0.1)

    def test_1_a_trained_cell_rejects_and_an_untrained_one_learns_to_pass(self):
        painted, good = self.decisions['cell_a'], self.decisions['cell_b']
        self.wait_for(lambda: painted, what='a decision on a painted part')
        assert not good
        client = self.node.create_client(Trigger, 'cell_b/front_trainer/capture')
        assert client.wait_for_service(timeout_sec=TIMEOUT)
        future = client.call_async(Trigger.Request())
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=TIMEOUT)
        assert future.result().success, future.result().message
        self.wait_for(lambda: good, what=f'a decision on a good part, {self.progress[-1:]}')
        assert any('loaded' in message for message in self.progress)
        self.wait_for(lambda: len(good) > 2)
        assert set(painted) == {'reject'}
        assert set(good) == {'pass'}

    def test_2_a_detector_that_is_killed_comes_back_in_time(self):
        painted = self.decisions['cell_a']
        (pid,) = detectors_of('cell_a')
        os.kill(pid, signal.SIGKILL)
        # What is on its way still.
        end = time.monotonic() + 1.0
        self.wait_for(lambda: time.monotonic() > end)
        painted.clear()
        self.wait_for(lambda: painted, RESTART, 'a decision after the restart')
        assert detectors_of('cell_a') != [pid]


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
