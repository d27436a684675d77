# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Package for colcon (ament_python) and pip."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = 'flow_anomaly_ros'
SHARE = f'share/{NAME}'


def files(pattern: str) -> list[str]:
    """Return the files that match, relative to this folder."""
    return sorted(str(path) for path in Path().glob(pattern))


setup(
    name=NAME,
    version='0.1.0',
    description='Flow-based visual defect inspection for ROS 2',
    license='Apache-2.0',
    maintainer='flow_anomaly_ros contributors',
    maintainer_email='maintainers@flow-anomaly.invalid',
    python_requires='>=3.11',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['detectors/*/README.md']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (SHARE, ['package.xml']),
        (
            f'{SHARE}/config',
            [*files('config/*.yaml'), *files('config/*.rviz'), *files('config/*.xml')],
        ),
        (f'{SHARE}/launch', files('launch/*.launch.py')),
    ],
    zip_safe=True,
    entry_points={
        'console_scripts': [
            f'detector = {NAME}.nodes.detector:main',
            f'flow-anomaly = {NAME}.cli:main',
            f'flow-anomaly-demo = {NAME}.demo:main',
            f'image_source = {NAME}.nodes.image_source:main',
            f'inspection_report = {NAME}.nodes.inspection_report:main',
            # The former name of inspection_report.
            f'listener = {NAME}.nodes.inspection_report:listener_main',
            f'rejecter = {NAME}.nodes.rejecter:main',
            f'trainer = {NAME}.nodes.trainer:main',
        ],
    },
    install_requires=[
        'matplotlib',
        'numpy',
        # Of OpenCV's four distributions the one that needs no display libraries.
        'opencv-python-headless>=4.6',
        'pyyaml',
        'safetensors',
        'scipy',
        'setuptools',
        'torch>=2.4',
        'torchvision',
        'tqdm',
    ],
    extras_require={
        # ROS 2 Jazzy without a ROS installation. All pinned: newer ones belong to other releases.
        'ros': [
            'ros-diagnostic-msgs==5.3.6',
            'ros-geometry-msgs==5.3.6',
            'ros-lifecycle-msgs==2.0.3',
            'ros-rcl-interfaces==2.0.3',
            'ros-rclpy[fastrtps]==7.1.6',
            'ros-sensor-msgs==5.3.6',
            'ros-std-msgs==5.3.6',
            'ros-std-srvs==5.3.6',
        ],
        # Recordings as a source of images.
        'bag': ['rosbags'],
        # More networks to take features from.
        'timm': ['timm'],
        # Faster runtimes, and what writes models for them.
        'onnx': ['onnx', 'onnxruntime', 'onnxscript'],
        'openvino': ['onnx', 'onnxscript', 'openvino'],
        # colcon test runs pytest only where this extra names it. launch_testing breaks pytest 8.4.
        'test': [
            'mypy',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'openvino',
            'pytest>=7.4,<8.4',
            'pytest-xdist',
            'rosbags',
            'ruff',
            'scikit-learn',
            'timm',
        ],
    },
)
