# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""detector.launch.py: the lifecycle is walked, and a known defect found."""

from pathlib import Path
import tempfile
import unittest

import pytest

pytest.importorskip('launch_testing', reason='launch_testing is part of a ROS 2 installation')
pytest.importorskip('launch_ros', reason='launch_ros is part of a ROS 2 installation')

from flow_anomaly_ros import cli
from flow_anomaly_ros.data.generated import generate_part, write_dataset
from flow_anomaly_ros.data.image_messages import to_array
from flow_anomaly_ros.data.images import write_image
import launch
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
import launch_ros.actions
from launch_ros.substitutions import FindPackageShare
import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
import launch_testing.util
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
import rclpy
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, Detection2DArray
from waiting import wait_for


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description():
    folder = Path(tempfile.mkdtemp(prefix='flow_anomaly_launch_'))
    data = write_dataset(folder / 'data', train=4, good=0, per_defect=0, size=64)
    part, _ = generate_part(1000, 64)
    part[10:22, 26:38] = (220, 40, 30)
    (folder / 'painted').mkdir()
    write_image(folder / 'painted' / 'part.png', part)
    model = folder / 'model.safetensors'
    options = ['--set', 'flow_steps=20', '--set', 'stride=4', '--set', 'hidden=16']
    command = ['train', '--data', str(data), '--output', str(model), '--backbone', 'pixels']
    assert cli.main([*command, '--threads', '1', '--quiet', *options]) == 0

    detector = launch.actions.IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution(
                [FindPackageShare('flow_anomaly_ros'), 'launch', 'detector.launch.py']
            )
        ),
        launch_arguments={
            'model': str(model),
            'namespace': 'cell',
            'device': 'cpu',
            'autostart': 'false',
        }.items(),
    )
    source = launch_ros.actions.Node(
        package='flow_anomaly_ros',
        executable='image_source',
        namespace='cell',
        parameters=[{'path': str(folder / 'painted'), 'rate': 10.0}],
        output='screen',
    )
    return launch.LaunchDescription([detector, source, launch_testing.actions.ReadyToTest()])


class TestDetector(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rclpy.init()
        cls.node = rclpy.create_node('test_detector', namespace='cell')
        cls.received = {}
        for topic, message_type in (
            ('verdict', Classification),
            ('defects', Detection2DArray),
            ('mask', Image),
        ):
            cls.node.create_subscription(
                message_type,
                f'camera/{topic}',
                lambda message, topic=topic: cls.received.__setitem__(topic, message),
                10,
            )

    @classmethod
    def tearDownClass(cls):
        cls.node.destroy_node()
        rclpy.shutdown()

    def call(self, service_type, name, request):
        client = self.node.create_client(service_type, name)
        wait_for(client.service_is_ready, name)
        future = client.call_async(request)
        self.spin_until(future.done, f'an answer of {name}')
        self.node.destroy_client(client)
        return future.result()

    def spin_until(self, condition, what):
        def holds():
            rclpy.spin_once(self.node, timeout_sec=0.1)
            return condition()

        wait_for(holds, what, seen=self.received.keys, pause=0)

    def change(self, transition, expected):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert self.call(ChangeState, 'detector/change_state', request).success
        state = self.call(GetState, 'detector/get_state', GetState.Request()).current_state
        assert state.id == expected

    def see_a_defect(self):
        self.received.clear()
        self.spin_until(lambda: len(self.received) == 3, 'the results')
        assert self.received['verdict'].results[0].class_id == 'defect'
        assert self.received['defects'].detections
        assert to_array(self.received['mask']).any()
        assert self.received['mask'].header.frame_id == 'camera_optical_frame'

    def test_the_lifecycle_is_walked_twice_and_the_defect_found(self):
        for _ in range(2):
            self.change(Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE)
            self.change(Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE)
            self.see_a_defect()
            self.change(Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE)
            self.change(Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED)


@launch_testing.post_shutdown_test()
class TestExitCodes(unittest.TestCase):
    def test_all_processes_end_cleanly(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
