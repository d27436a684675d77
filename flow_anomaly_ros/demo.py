# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The demo: trains on ten good parts, then inspects good and defective parts over ROS 2."""

import argparse
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from flow_anomaly_ros import cli
from flow_anomaly_ros.data.folder import read_folder
from flow_anomaly_ros.data.generated import write_dataset
from flow_anomaly_ros.data.output_files import make_folder
from flow_anomaly_ros.runtime.training_request import TrainingRequest

# Seconds for a node to exit after an interrupt.
SHUTDOWN_TIMEOUT_S = 15.0


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit status, 0 if enough verdicts are correct."""
    options = parse_arguments(arguments)
    # The nodes run in their own sessions, so this process must stop them however it is stopped; a
    # shell starts background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    status = prepare(options)
    if status != 0 or options.prepare:
        return status
    return inspect(options)


def prepare(options: argparse.Namespace) -> int:
    """Generate the data set unless one is given, then train; returns the exit status."""
    try:
        if options.data is not None:
            read_folder(options.data)
        make_folder(options.output)
        if options.data is None:
            write_dataset(data_folder(options))
            print(f'demo: wrote images of a machined part to {data_folder(options)}', flush=True)
    except ValueError as error:
        print(f'demo: {error}', file=sys.stderr)
        return 2
    method_options = {'backbone': options.backbone} if options.backbone else {}
    if options.data is None:
        # Generated parts lie in a fixture with some play, a degree or two and a few pixels.
        method_options['align'] = 'always'
    request = TrainingRequest(
        data=(data_folder(options),),
        output=model_file(options),
        options=method_options,
        weights=options.weights,
        max_images=options.max_images,
        seed=options.seed,
        device=options.device,
    )
    return cli.main(['train', *request.to_arguments()])


def data_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the images that are inspected."""
    return options.data or options.output / 'data'


def model_file(options: argparse.Namespace) -> Path:
    """Return the path of the trained model file."""
    return options.output / 'model.safetensors'


def inspect(options: argparse.Namespace) -> int:
    """Inspect the images with three nodes; returns 0 if enough verdicts are correct."""
    print('demo: starting image source, detector and inspection report', flush=True)
    pictures = options.output / 'pictures'
    processes: dict[str, subprocess.Popen] = {}
    try:
        data = data_folder(options)
        processes['image_source'] = start(
            'image_source', {'path': data, 'rate': 0.0, 'loop': False}
        )
        # One core is left for the other processes, which would slow the detector's threads down.
        threads = max(1, (os.cpu_count() or 2) - 1)
        processes['detector'] = start(
            'detector',
            {
                'camera.model': model_file(options),
                'device': options.device,
                'autostart': True,
                'threads': threads,
            },
        )
        processes['inspection_report'] = start(
            'inspection_report', {'data': data, 'output': pictures}
        )
        # The image source exits after its last image; a node that fails ends the demo.
        while processes['inspection_report'].poll() is None:
            if any(process.poll() for process in processes.values()):
                break
            time.sleep(0.1)
    except KeyboardInterrupt:
        print('demo: stopped', file=sys.stderr)
        return 130
    finally:
        # The first node that failed is the cause: the others fail because of it.
        failed = [name for name, process in processes.items() if process.poll()]
        failed += [name for name, process in processes.items() if stop(process)]
    if failed:
        print(f'demo: {failed[0]} failed, see its messages above', file=sys.stderr)
        return 1
    print(f'demo: pictures are in {pictures}', flush=True)
    return 0


def start(executable: str, parameters: dict[str, object]) -> subprocess.Popen:
    """Start a node of this package in its own process."""
    command = [sys.executable, '-m', 'flow_anomaly_ros.nodes.executables', executable, '--ros-args']
    for name, value in parameters.items():
        # ROS reads values as YAML: JSON keeps a path such as 2024 a string.
        plain = value if isinstance(value, bool | int | float | list) else str(value)
        command += ['-p', f'{name}:={json.dumps(plain)}']
    environment = {
        # Keep the demo's topics on this machine.
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100),
        **os.environ,
    }
    # In its own session, so that Ctrl-C reaches only the demo, which then stops the nodes in order.
    return subprocess.Popen(command, env=environment, start_new_session=True)


def stop(process: subprocess.Popen) -> int:
    """Stop a process as Ctrl-C would; returns its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(SHUTDOWN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='demo', description=__doc__)
    parser.add_argument(
        '--data',
        type=Path,
        metavar='DIR',
        help='folder in MVTec layout; by default images of a machined part are generated',
    )
    parser.add_argument(
        '--backbone',
        metavar='NAME',
        help='network that extracts features, such as mobilenet_v2 (default: efficientnet_lite0)',
    )
    parser.add_argument(
        '--weights',
        type=Path,
        metavar='FILE',
        help='weights file of the backbone (default: that of its package, or it is downloaded)',
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=10,
        metavar='N',
        help='number of good images to train on (10)',
    )
    parser.add_argument(
        '--device', default='auto', metavar='NAME', help='auto, cpu or cuda[:N] (auto)'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='random seed (0)')
    parser.add_argument(
        '--output',
        type=Path,
        default=Path('demo_output'),
        metavar='DIR',
        help='folder for the model and the pictures (demo_output)',
    )
    parser.add_argument(
        '--prepare',
        action='store_true',
        help='only generate the data and train the model (used by demo.launch.py)',
    )
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())
