# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""detector.launch.py with a model that does not exist: one clear line, exit status 1."""

import unittest

import pytest

pytest.importorskip('launch_testing', reason='launch_testing is part of a ROS 2 installation')
pytest.importorskip('launch_ros', reason='launch_ros is part of a ROS 2 installation')

import launch
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
from waiting import wait_for


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description():
    detector = launch.actions.IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution(
                [FindPackageShare('flow_anomaly_ros'), 'launch', 'detector.launch.py']
            )
        ),
        launch_arguments={'model': '/none/model.safetensors', 'device': 'cpu'}.items(),
    )
    return launch.LaunchDescription([detector, launch_testing.actions.ReadyToTest()])


class TestBadModel(unittest.TestCase):
    def test_the_reason_is_logged(self, proc_output):
        reason = b'no model file at /none/model.safetensors'
        wait_for(lambda: any(reason in written.text for written in proc_output), 'the reason')

    def test_the_process_ends(self, proc_info):
        def has_ended():
            try:
                proc_info.assertWaitForShutdown(process='detector', timeout=1)
            except AssertionError:
                return False
            return True

        wait_for(has_ended, 'the end of the detector', pause=0)


@launch_testing.post_shutdown_test()
class TestExitCodes(unittest.TestCase):
    def test_the_exit_status_is_1(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[1])
