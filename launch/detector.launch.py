# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Starts a detector node with one camera and activates it.

ros2 launch flow_anomaly_ros detector.launch.py model:=model.safetensors image:=/camera/image_raw
"""

from flow_anomaly_ros.cell.transport import transport_environment
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def _config(name: str) -> PathJoinSubstitution:
    return PathJoinSubstitution([FindPackageShare('flow_anomaly_ros'), 'config', name])


ARGUMENTS = (
    ('model', None, 'Model file written by flow-anomaly train.'),
    (
        'image',
        'camera/image',
        'Image topic of the camera. For compressed images give it without /compressed at its end, '
        'and set camera.transport to compressed in params_file.',
    ),
    ('namespace', '', 'Namespace of the node and of its topics.'),
    ('device', 'auto', 'Device: auto, cpu or cuda[:N].'),
    ('autostart', 'true', 'Configure and activate at start; false: a lifecycle manager does it.'),
    ('params_file', _config('detector.yaml'), 'Parameter file; the other arguments override it.'),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the node."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    detector = LifecycleNode(
        package='flow_anomaly_ros',
        executable='detector',
        name='detector',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            LaunchConfiguration('params_file'),
            {
                # The arguments belong to this camera, whatever cameras the file has.
                'cameras': ['camera'],
                'camera.model': ParameterValue(LaunchConfiguration('model'), value_type=str),
                'camera.topic': ParameterValue(LaunchConfiguration('image'), value_type=str),
                'device': LaunchConfiguration('device'),
                'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool),
            },
        ],
        additional_env=transport_environment(_config('fastdds.xml')),
        output='screen',
    )
    return LaunchDescription([*arguments, detector])
