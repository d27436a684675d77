# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Trains on ten good parts, then inspects good and defective parts with three nodes.

ros2 launch flow_anomaly_ros demo.launch.py
ros2 launch flow_anomaly_ros demo.launch.py data:=DIR backbone:=mobilenet_v2 weights:=FILE
"""

from pathlib import Path

from flow_anomaly_ros.cell.transport import transport_environment
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

ARGUMENTS = (
    ('data', '', 'Folder in MVTec layout. Empty: images of a machined part are generated.'),
    ('backbone', '', 'Network that extracts features. Empty: efficientnet_lite0.'),
    (
        'weights',
        '',
        'Weights file of the backbone. Empty: that of its package, or it is downloaded.',
    ),
    ('output', 'demo_output', 'Folder for the model and the pictures.'),
    ('device', 'auto', 'Device: auto, cpu or cuda[:N].'),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; train, then start the nodes."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_train_then_inspect)])


def _train_then_inspect(context: LaunchContext) -> list:
    values = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    for name in ('data', 'weights', 'output'):
        # No shell expands ~ after :=.
        values[name] = values[name] and str(Path(values[name]).expanduser())
    data = values['data'] or f'{values["output"]}/data'
    # Not a Node action, which would add ROS arguments.
    training = ExecuteProcess(
        cmd=[
            ExecutableInPackage('flow-anomaly-demo', 'flow_anomaly_ros'),
            '--prepare',
            *(word for name, value in values.items() if value for word in (f'--{name}', value)),
        ],
        output='screen',
    )
    share = FindPackageShare('flow_anomaly_ros')
    images = transport_environment(PathJoinSubstitution([share, 'config', 'fastdds.xml']))
    source = Node(
        package='flow_anomaly_ros',
        executable='image_source',
        name='image_source',
        parameters=[{'path': data, 'rate': 0.0, 'loop': False}],
        additional_env=images,
        output='screen',
    )
    detector = LifecycleNode(
        package='flow_anomaly_ros',
        executable='detector',
        name='detector',
        namespace='',
        parameters=[
            {
                'camera.model': f'{values["output"]}/model.safetensors',
                'device': values['device'],
                'autostart': True,
            }
        ],
        additional_env=images,
        output='screen',
    )
    report = Node(
        package='flow_anomaly_ros',
        executable='inspection_report',
        name='inspection_report',
        parameters=[{'data': data, 'output': f'{values["output"]}/pictures'}],
        output='screen',
    )

    def after_failure(event: ProcessExited, _context: LaunchContext) -> list:
        if event.returncode == 0:
            return []
        return [EmitEvent(event=Shutdown(reason=f'{event.process_name} failed'))]

    def after_training(event: ProcessExited, _context: LaunchContext) -> list:
        if event.returncode != 0:
            return after_failure(event, context)
        return [source, detector, report]

    return [
        training,
        RegisterEventHandler(OnProcessExit(target_action=training, on_exit=after_training)),
        RegisterEventHandler(OnProcessExit(target_action=source, on_exit=after_failure)),
        RegisterEventHandler(OnProcessExit(target_action=detector, on_exit=after_failure)),
        RegisterEventHandler(
            OnProcessExit(
                target_action=report,
                on_exit=[
                    LogInfo(msg=f'pictures are in {values["output"]}/pictures'),
                    EmitEvent(event=Shutdown(reason='the inspection report has ended')),
                ],
            )
        ),
    ]
