# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Starts a trainer node, which captures images of good parts of one camera and trains a model.

ros2 launch flow_anomaly_ros train.launch.py image:=/camera/image_raw data:=good
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = (
    ('camera', 'camera', 'Camera name, the same as in the detector.'),
    (
        'image',
        '',
        'Image topic. For compressed images give it without /compressed at its end, and set '
        'transport to compressed in params_file. Empty: <camera>/image.',
    ),
    ('data', 'good', 'Folder for the images of good parts; existing images are used too.'),
    ('model', 'model.safetensors', 'Model file to write.'),
    ('bag', '', 'rosbag2 recording to take the images from. Empty: live images.'),
    ('auto', 'false', 'Capture and train at start, without a service call.'),
    ('detector', '', 'Detector node that loads the model, such as detector. Empty: none.'),
    ('namespace', '', 'Namespace of the node.'),
    ('device', 'auto', 'Device: auto, cpu or cuda[:N].'),
    (
        'params_file',
        PathJoinSubstitution([FindPackageShare('flow_anomaly_ros'), 'config', 'trainer.yaml']),
        'Parameter file; the other arguments override it.',
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the node."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]

    def given(name: str, kind: type = str) -> ParameterValue:
        return ParameterValue(LaunchConfiguration(name), value_type=kind)

    trainer = Node(
        package='flow_anomaly_ros',
        executable='trainer',
        name='trainer',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            LaunchConfiguration('params_file'),
            {
                'topic': given('image'),
                'auto_capture': given('auto', bool),
                'auto_train': given('auto', bool),
                **{
                    name: given(name)
                    for name in ('camera', 'data', 'model', 'bag', 'detector', 'device')
                },
            },
        ],
        output='screen',
    )
    return LaunchDescription([*arguments, trainer])
