#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Cameras and one detector, each a process of its own: losses, latency, memory, restart.

A small model inspects generated parts; every result is subscribed to. See README.md.
"""

import argparse
from collections import Counter
from functools import partial
import io
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from flow_anomaly_ros import demo
from flow_anomaly_ros.data.generated import generate_part, write_dataset
from flow_anomaly_ros.data.image_messages import to_message
from flow_anomaly_ros.nodes.qos import output_profile, small_profile
from flow_anomaly_ros.runtime.artifact import save_artifact
from flow_anomaly_ros.runtime.command_process import CommandProcess
from flow_anomaly_ros.runtime.training import train
from flow_anomaly_ros.runtime.training_data import TrainingDataset
from flow_anomaly_ros.runtime.training_request import TrainingRequest
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification, Detection2DArray

RESULTS = {
    'verdict': Classification,
    'defects': Detection2DArray,
    'mask': Image,
    'score_map': Image,
    'overlay': Image,
}
# Promised: seconds from the start of a detector, after it was killed, to its first verdict.
RESTART_S = 10.0
# Memory is compared from here on: by then every buffer has been used.
SETTLED = 120.0
SMALL_MODEL: dict[str, object] = {
    'stride': 8,
    'blocks': 2,
    'hidden': 16,
    'flow_steps': 50,
    'augmented_samples': 10,
}


def main() -> int:
    """Run the cell at both sizes, or be one of its cameras."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=600, help='at 640x480 (default: 600)')
    parser.add_argument('--rate', type=float, default=15, help='images per second and camera')
    parser.add_argument('--camera', help=argparse.SUPPRESS)
    parser.add_argument('--size', type=int, nargs=2, default=(640, 480), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.camera:
        return _be_camera(arguments)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    print(f'{os.cpu_count()} cores')
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / 'model.safetensors'
        images = [generate_part(index, 128)[0] for index in range(8)]
        trained = train(
            TrainingRequest(method='restoration', options=SMALL_MODEL, image_size=64, device='cpu'),
            TrainingDataset(images),
        )
        save_artifact(model, trained.detector, trained.manifest)
        _run_cell(model, ('left', 'right'), (640, 480), arguments.rate, arguments.seconds)
        # What the node adds to the model shows where nothing else waits for the cores.
        alone = min(60.0, arguments.seconds)
        for size in ((640, 480), (1920, 1080)):
            _run_cell(model, ('lone',), size, 2.0, alone)
        parts = write_dataset(Path(folder) / 'parts', train=10, good=0, per_defect=0, size=256)
        endless = ['--output', f'{folder}/new.safetensors', '--set', 'flow_steps=1000000']
        training = CommandProcess(
            ['train', '--json-progress', '--data', str(parts), '--threads', '1', *endless], 10
        )
        print('\nwith training in parallel, as the trainer node starts it:', end='')
        _run_cell(model, ('lone',), (640, 480), 2.0, alone)
        training.stop()
        seconds = _restart(model)
    print(f'\nrestart: first verdict after {seconds:.1f} s (limit: {RESTART_S:g} s)')
    return 0 if seconds <= RESTART_S else 1


def _run_cell(
    model: Path, names: tuple[str, ...], size: tuple[int, int], rate: float, seconds: float
) -> None:
    parameters = {'cameras': list(names), 'autostart': True, 'device': 'cpu', 'threads': 1}
    parameters |= {f'{name}.model': str(model) for name in names}
    rclpy.init()
    watcher = _Watcher(names)
    detector = demo.start('detector', parameters)
    cameras = []
    try:
        watcher.spin(60, lambda: watcher.status)
        cameras = [_start_camera(camera, size, rate) for camera in names]
        watcher.spin(60, lambda: len(watcher.received) == len(names) * len(RESULTS))
        settled = None
        end = time.monotonic() + seconds
        started = time.monotonic()
        while time.monotonic() < end:
            watcher.spin(1.0)
            if settled is None and time.monotonic() - started > min(SETTLED, seconds / 2):
                settled = _resident(detector.pid)
        sent = {name: _stop_camera(process) for name, process in zip(names, cameras, strict=True)}
        cameras = []
        watcher.spin(3.0)
        final = _resident(detector.pid)
        _report(watcher, sent, size, rate, seconds, settled or final, final)
    finally:
        for process in cameras:
            process.kill()
        demo.stop(detector)
        watcher.destroy_node()
        # An interrupt has done it already.
        rclpy.try_shutdown()


def _restart(model: Path) -> float:
    """Kill a detector that inspects and start it again.

    Args:
        model: Model file of the one camera.

    Returns:
        Seconds from the second start to the first verdict.

    Raises:
        TimeoutError: No verdict within a minute of either start.
    """
    parameters = {'cameras': ['lone'], 'lone.model': str(model), 'autostart': True}
    parameters |= {'device': 'cpu', 'threads': 1}
    rclpy.init()
    watcher = _Watcher(('lone',))
    detector = demo.start('detector', parameters)
    camera = _start_camera('lone', (640, 480), 10.0)

    def wait_for_verdict() -> None:
        watcher.received.clear()
        watcher.spin(60, lambda: watcher.received['lone', 'verdict'])
        if not watcher.received['lone', 'verdict']:
            msg = 'no verdict within 60 s: see the output of the detector'
            raise TimeoutError(msg)

    try:
        wait_for_verdict()
        detector.kill()
        detector.wait()
        # Verdicts that were on their way.
        watcher.spin(1.0)
        started = time.monotonic()
        detector = demo.start('detector', parameters)
        wait_for_verdict()
        return time.monotonic() - started
    finally:
        camera.kill()
        demo.stop(detector)
        watcher.destroy_node()
        rclpy.try_shutdown()


def _report(watcher, sent, size, rate, seconds, settled, final) -> None:
    print(f'\n{len(sent)} cameras, {size[0]}x{size[1]} at {rate:g} Hz for {seconds:g} s')
    for camera in sent:
        values = watcher.status[camera]
        known = {key: int(values[key]) for key in ('inspected', 'dropped', 'lost', 'failed')}
        missing = sent[camera] - sum(known.values())
        print(
            f'{camera}: {sent[camera]} sent, '
            + ', '.join(f'{value} {key}' for key, value in known.items())
            + f', {missing} unaccounted for; verdicts received '
            f'{watcher.received[camera, "verdict"]}, overlays {watcher.received[camera, "overlay"]}'
        )
        stages = [key.removesuffix(' p50 (ms)') for key in values if key.endswith('p50 (ms)')]
        for stage in stages:
            median, high = (values[f'{stage} {kind} (ms)'] for kind in ('p50', 'p95'))
            print(f'  {stage:<10} p50 {median:>6} ms, p95 {high:>6} ms')
        overhead = float(values['total p50 (ms)']) - float(values['detect p50 (ms)'])
        print(f'  around the model: {overhead:.1f} ms (median in to median out, less detect)')
    change = 100 * (final / settled - 1)
    print(
        f'memory: {settled / 2**20:.1f} MiB settled, {final / 2**20:.1f} at the end '
        f'({change:+.2f} %)'
    )


class _Watcher(Node):
    """Subscribes to every result of every camera, and to the diagnostics."""

    def __init__(self, cameras: tuple[str, ...]) -> None:
        super().__init__('watcher')
        self.received: Counter[tuple[str, str]] = Counter()
        self.status: dict[str, dict[str, str]] = {}
        for camera in cameras:
            for topic, kind in RESULTS.items():
                self.create_subscription(
                    kind,
                    f'{camera}/{topic}',
                    partial(self._count, (camera, topic)),
                    output_profile() if kind is Image else small_profile(),
                    # Only their number is of interest here.
                    raw=True,
                )
        self.create_subscription(DiagnosticArray, '/diagnostics', self._take_status, 10)

    def _count(self, result: tuple[str, str], _message: bytes) -> None:
        self.received[result] += 1

    def _take_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.status[status.hardware_id] = {one.key: one.value for one in status.values}

    def spin(self, seconds: float, until=lambda: False) -> None:
        """Handle messages for a while, or until a condition holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            rclpy.spin_once(self, timeout_sec=0.1)


def _resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


def _start_camera(camera: str, size: tuple[int, int], rate: float) -> subprocess.Popen:
    command = [sys.executable, __file__, '--camera', camera, '--rate', str(rate)]
    return subprocess.Popen(
        [*command, '--size', *map(str, size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _stop_camera(process: subprocess.Popen) -> int:
    """End a camera; returns how many images it has sent."""
    output, _ = process.communicate()
    return json.loads(output)


def _be_camera(arguments: argparse.Namespace) -> int:
    """Publish generated parts, good and bad in turns, until stdin is closed."""
    images = [generate_part(1000, 128)[0] for _ in range(2)]
    images[1][20:44, 52:76] = (220, 40, 30)
    width, height = arguments.size
    images = [cv2.resize(image, (width, height)) for image in images]
    rclpy.init()
    node = rclpy.create_node('camera')
    publisher = node.create_publisher(Image, f'{arguments.camera}/image', 10)
    while not publisher.get_subscription_count():
        time.sleep(0.1)
    os.set_blocking(0, False)
    stdin = io.FileIO(0, closefd=False)
    sent, due = 0, time.monotonic()
    # None while the pipe is open, nothing once it is closed.
    while stdin.read(1) is None:
        header = Header(stamp=node.get_clock().now().to_msg(), frame_id=arguments.camera)
        publisher.publish(to_message(images[sent // 30 % 2], 'rgb8', header))
        sent += 1
        due = max(due + 1 / arguments.rate, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    # The last ones are on their way still.
    time.sleep(1.0)
    print(json.dumps(sent))
    rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
