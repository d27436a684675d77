# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Starts the nodes of a machining cell: a detector, a trainer for each camera, and a rejecter.

ros2 launch flow_anomaly_ros cell.launch.py cameras:=front,side namespace:=cell_a folder:=cell_a
ros2 launch flow_anomaly_ros cell.launch.py images:=/usb_cam/image_raw rviz:=true

Each camera has a folder in `folder`, with the images of good parts (good/) and the model
(model.safetensors). A camera without a model is not inspected until its model is trained.
"""

from pathlib import Path
import tempfile

from flow_anomaly_ros.cell.rviz import cell_config
from flow_anomaly_ros.cell.topics import image_topic
from flow_anomaly_ros.cell.transport import transport_environment
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'flow_anomaly_ros'
BOOLEANS = ('true', 'false')
# Long enough to read the error of a node that does not start.
RESPAWN_DELAY_S = 2.0


def _config(name: str) -> PathJoinSubstitution:
    return PathJoinSubstitution([FindPackageShare(PACKAGE), 'config', name])


# Environment of the nodes that publish images.
IMAGE_ENVIRONMENT = transport_environment(_config('fastdds.xml'))

ARGUMENTS = (
    ('cameras', 'camera', 'Names of the cameras, separated by commas.', None),
    (
        'images',
        '',
        'Image topics of the cameras in the same order, separated by commas. For compressed images '
        'give them without /compressed at their end. Empty: <camera>/image.',
        None,
    ),
    ('transport', 'raw', 'Image transport: raw or compressed.', ('raw', 'compressed')),
    ('namespace', '', 'Namespace of the cell; cells in different namespaces are separate.', None),
    ('folder', 'cell', 'Folder with the images of good parts and the models.', None),
    ('device', 'auto', 'Device: auto, cpu or cuda[:N].', None),
    (
        'backbone',
        '',
        'Backbone of the trainers, such as mobilenet_v2. Empty: the one in trainer_params.',
        None,
    ),
    (
        'weights',
        '',
        'Weights file of the backbone. Empty: that of its package, or it is downloaded.',
        None,
    ),
    ('source', '', 'Folder or video published in place of each camera. Empty: real cameras.', None),
    ('detector', 'true', 'Start the detector; false if another machine runs it.', BOOLEANS),
    ('trainer', 'true', 'Start a trainer for each camera, <camera>_trainer.', BOOLEANS),
    ('rejecter', 'true', 'Start a rejecter.', BOOLEANS),
    ('grouping', 'window', 'How the rejecter groups verdicts into parts.', ('window', 'trigger')),
    (
        'one_image',
        'false',
        'Each camera takes one image of a part, as with a hardware trigger.',
        BOOLEANS,
    ),
    ('arm_service', '', 'Service of the arm that the rejecter calls. Empty: none.', None),
    ('rviz', 'false', 'Start rviz2 with the images of all cameras.', BOOLEANS),
    (
        'detector_params',
        _config('detector.yaml'),
        'Parameter file; the other arguments override it.',
        None,
    ),
    (
        'trainer_params',
        _config('trainer.yaml'),
        'Parameter file; the other arguments override it.',
        None,
    ),
    (
        'rejecter_params',
        _config('rejecter.yaml'),
        'Parameter file; the other arguments override it.',
        None,
    ),
    (
        'rviz_config',
        _config('inspection.rviz'),
        'rviz configuration with a display group named camera.',
        None,
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the nodes."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
        for name, default, description, choices in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_cell)])


def _cell(context: LaunchContext) -> list:
    values = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    images = _image_topics(values['cameras'], values['images'])
    if values['source'] and (values['images'] or values['transport'] != 'raw'):
        msg = (
            f'source:={values["source"]} publishes raw images on <camera>/image: do not set images '
            'or transport'
        )
        raise ValueError(msg)
    actions = [_detector(values, images)] if values['detector'] == 'true' else []
    if values['source']:
        actions += [_source(values, camera) for camera in images]
    if values['trainer'] == 'true':
        actions += [_trainer(values, camera, topic) for camera, topic in images.items()]
    if values['rejecter'] == 'true':
        actions.append(_rejecter(values, list(images)))
    if values['rviz'] == 'true':
        actions.append(_rviz(values, images))
    return actions


def _image_topics(cameras: str, images: str) -> dict[str, str]:
    names = [name.strip() for name in cameras.split(',')]
    topics = [topic.strip() for topic in images.split(',')] if images else [''] * len(names)
    if len(topics) != len(names) or not all(names):
        msg = f'cameras:={cameras} images:={images}: give one image topic per camera, or none'
        raise ValueError(msg)
    if len(set(names)) < len(names):
        msg = f'cameras:={cameras}: give each camera a name of its own'
        raise ValueError(msg)
    return dict(zip(names, topics, strict=True))


def _model(values: dict[str, str], camera: str) -> str:
    return str(Path(values['folder']).expanduser().absolute() / camera / 'model.safetensors')


def _detector(values: dict[str, str], images: dict[str, str]) -> LifecycleNode:
    parameters = {
        'cameras': list(images),
        'device': values['device'],
        'autostart': True,
        'await_models': True,
    }
    for camera, topic in images.items():
        parameters |= {
            f'{camera}.model': _model(values, camera),
            f'{camera}.topic': topic,
            f'{camera}.transport': values['transport'],
        }
    return LifecycleNode(
        package=PACKAGE,
        executable='detector',
        name='detector',
        namespace=values['namespace'],
        parameters=[values['detector_params'], parameters],
        additional_env=IMAGE_ENVIRONMENT,
        output='screen',
        respawn=True,
        respawn_delay=RESPAWN_DELAY_S,
    )


def _source(values: dict[str, str], camera: str) -> Node:
    return Node(
        package=PACKAGE,
        executable='image_source',
        name=f'{camera}_source',
        namespace=values['namespace'],
        parameters=[{'path': values['source'], 'camera': camera}],
        additional_env=IMAGE_ENVIRONMENT,
        output='screen',
    )


def _trainer(values: dict[str, str], camera: str, topic: str) -> Node:
    model = Path(_model(values, camera))
    return Node(
        package=PACKAGE,
        executable='trainer',
        name=f'{camera}_trainer',
        namespace=values['namespace'],
        parameters=[
            values['trainer_params'],
            {
                'camera': camera,
                'topic': topic,
                'transport': values['transport'],
                'data': str(model.parent / 'good'),
                'model': str(model),
                'device': values['device'],
                'detector': 'detector',
                **{name: values[name] for name in ('backbone', 'weights') if values[name]},
            },
        ],
        output='screen',
        respawn=True,
        respawn_delay=RESPAWN_DELAY_S,
    )


def _rejecter(values: dict[str, str], cameras: list[str]) -> Node:
    return Node(
        package=PACKAGE,
        executable='rejecter',
        name='rejecter',
        namespace=values['namespace'],
        parameters=[
            values['rejecter_params'],
            {
                'cameras': cameras,
                'grouping': values['grouping'],
                'one_image': values['one_image'] == 'true',
                'arm_service': values['arm_service'],
            },
        ],
        output='screen',
        respawn=True,
        respawn_delay=RESPAWN_DELAY_S,
    )


def _rviz(values: dict[str, str], images: dict[str, str]) -> Node:
    is_compressed = values['transport'] == 'compressed'
    shown = {camera: image_topic(camera, is_compressed, topic) for camera, topic in images.items()}
    text = cell_config(Path(values['rviz_config']), shown, values['namespace'])
    with tempfile.NamedTemporaryFile('w', suffix='.rviz', delete=False) as file:
        file.write(text)
    return Node(
        package='rviz2',
        executable='rviz2',
        name='rviz',
        namespace=values['namespace'],
        arguments=['-d', file.name],
        output='screen',
    )
