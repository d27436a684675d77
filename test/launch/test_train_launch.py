# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""train.launch.py: from the images that are there to a model, without a call."""

from pathlib import Path
import tempfile
import unittest

import pytest

pytest.importorskip('launch_testing', reason='launch_testing is part of a ROS 2 installation')
pytest.importorskip('launch_ros', reason='launch_ros is part of a ROS 2 installation')

from flow_anomaly_ros.data.generated import write_dataset
import launch
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
from waiting import wait_for

FOLDER = Path(tempfile.mkdtemp(prefix='flow_anomaly_train_'))


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description():
    data = write_dataset(FOLDER, train=4, good=0, per_defect=0, size=64) / 'train' / 'good'
    params = FOLDER / 'trainer.yaml'
    params.write_text(
        '/**:\n'
        '  ros__parameters:\n'
        '    images: 4\n'
        '    options: ["backbone=pixels", "flow_steps=20", "stride=4", "hidden=16"]\n'
    )
    train = launch.actions.IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution(
                [FindPackageShare('flow_anomaly_ros'), 'launch', 'train.launch.py']
            )
        ),
        launch_arguments={
            'data': str(data),
            'model': str(FOLDER / 'model.safetensors'),
            'auto': 'true',
            'device': 'cpu',
            'params_file': str(params),
        }.items(),
    )
    return launch.LaunchDescription([train, launch_testing.actions.ReadyToTest()])


class TestTraining(unittest.TestCase):
    def test_a_model_is_trained(self, proc_output):
        wait_for(lambda: any(b'done: ' in written.text for written in proc_output), 'a model')
        assert (FOLDER / 'model.safetensors').is_file()


@launch_testing.post_shutdown_test()
class TestExitCodes(unittest.TestCase):
    def test_all_processes_end_cleanly(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
