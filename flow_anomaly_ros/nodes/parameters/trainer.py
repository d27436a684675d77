# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the trainer node."""

from dataclasses import dataclass

from flow_anomaly_ros.nodes.parameters.camera import (
    TOPIC_DESCRIPTION,
    TRANSPORT_DESCRIPTION,
    TRANSPORTS,
)
from flow_anomaly_ros.nodes.parameters.declaration import parameter


@dataclass(frozen=True)
class TrainerParameters:
    """Parameters of the trainer node."""

    camera: str = parameter('camera', 'Camera name, the same as in the detector.', read_only=True)
    topic: str = parameter('', TOPIC_DESCRIPTION, is_ros_name=True, read_only=True)
    transport: str = parameter('raw', TRANSPORT_DESCRIPTION, choices=TRANSPORTS, read_only=True)
    data: str = parameter(
        'good',
        'Folder for the images of good parts, as PNG files. Images that are already there are '
        'used too.',
        read_only=True,
    )
    model: str = parameter('model.safetensors', 'Model file to write.', read_only=True)
    images: int = parameter(10, 'Number of images that `~/capture` takes.', limits=(1, 100_000))
    capture_interval: float = parameter(
        1.0,
        'Shortest time in seconds between two captured images, so that no part is captured twice.',
        limits=(0.0, 3600.0),
    )
    auto_capture: bool = parameter(
        False,
        'Capture at start until the folder contains `images` images.',
        read_only=True,
    )
    auto_train: bool = parameter(False, 'Train as soon as the images are captured.')
    bag: str = parameter(
        '',
        'rosbag2 recording from which `~/capture` takes the images, spread evenly over the '
        'recording. Empty: live images.',
    )
    method: str = parameter('restoration', 'Detection method; `flow-anomaly methods` lists them.')
    options: tuple[str, ...] = parameter(
        ('',), 'Options of the method, each as NAME=VALUE; `flow-anomaly methods` lists them.'
    )
    backbone: str = parameter(
        '',
        'Pretrained network that extracts features, such as `mobilenet_v2`. Empty: that of the '
        'method.',
    )
    weights: str = parameter(
        '',
        'Weights file of the backbone. Empty: that of the installed package, or it is downloaded.',
    )
    part_class: str = parameter(
        '',
        'Class of the parts in front of the camera, for `~/accept_last` and a model with several '
        'classes.',
    )
    image_size: int = parameter(
        256, 'Shorter side in px to which images are resized.', limits=(32, 4096)
    )
    tile: int = parameter(
        0,
        'Side in px of overlapping tiles that the resized image is cut into, a multiple of 64, for '
        'defects that are small compared to the image. 0: no tiles.',
        limits=(0, 4096),
    )
    false_positive_rate: float = parameter(
        0.01,
        'Share of good parts that may be classified as defect.',
        limits=(0.0001, 0.49),
    )
    uncertain_rate: float = parameter(
        0.1,
        'Share of good parts that may be classified as uncertain or defect, so that a person looks '
        'at them.',
        limits=(0.0001, 0.49),
    )
    seed: int = parameter(
        0, 'Random seed: the same seed gives the same model.', limits=(0, 2**31 - 1)
    )
    checkpoints: str = parameter(
        '',
        'Folder for checkpoints: `~/train` resumes interrupted training from there. Empty: no '
        'checkpoints, training starts over.',
    )
    device: str = parameter(
        'auto', 'Device for training: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.'
    )
    threads: int = parameter(
        1,
        'CPU threads for training. 0: one per core. Leave cores for inspection.',
        limits=(0, 256),
    )
    priority: int = parameter(
        10,
        'Niceness of a training process: 0 competes with inspection, 19 takes only idle CPU time.',
        limits=(0, 19),
    )
    detector: str = parameter(
        '', 'Detector node that gets the model. Empty: none.', is_ros_name=True
    )
    load: bool = parameter(
        True, 'Have the detector load the model as soon as it is trained or calibrated.'
    )
    recent_images: int = parameter(
        10,
        'Number of images kept for `~/accept_last` until their verdicts arrive. The trainer then '
        'stays subscribed to images and verdicts, so the detector inspects continuously. '
        '0: none, and images are received only during a capture.',
        limits=(0, 1000),
        read_only=True,
    )
