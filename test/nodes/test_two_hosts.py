# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The cell on one host, the detector on another: two network namespaces and a link between them."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import threading

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

pytestmark = pytest.mark.ros

ADDRESSES = {'cell': '10.113.7.1', 'gpu': '10.113.7.2'}


class Hosts:
    """Two hosts with a link; neither sees anything else, nor the other's shared memory."""

    def __init__(self):
        self.names = {host: f'{host}{os.getpid()}' for host in ADDRESSES}
        self.processes = []
        self.shells = {}

    def open(self):
        cell, gpu = self.names.values()
        ip('netns', 'add', cell)
        ip('netns', 'add', gpu)
        ip('link', 'add', 'link0', 'netns', cell, 'type', 'veth', 'peer', 'link0', 'netns', gpu)
        for host, name in self.names.items():
            ip('-n', name, 'addr', 'add', f'{ADDRESSES[host]}/24', 'dev', 'link0')
            ip('-n', name, 'link', 'set', 'lo', 'up')
            # DDS sends through shared memory where it can: a host has one of its own.
            self._start_shell(host)
        self.connect(True)

    def _start_shell(self, host):
        inside = 'mount -t tmpfs tmpfs /dev/shm && echo ready && exec cat'
        shell = subprocess.Popen(
            ['ip', 'netns', 'exec', self.names[host], 'unshare', '--mount', 'sh', '-c', inside],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.shells[host] = shell
        if not shell.stdout.readline():
            raise subprocess.CalledProcessError(shell.wait(), 'mount', stderr=b'no mount')

    def connect(self, is_up):
        """Plug the cable in, or pull it out."""
        for name in self.names.values():
            ip('-n', name, 'link', 'set', 'link0', 'up' if is_up else 'down')

    def start(self, host, *command):
        """Start a Python process on a host."""
        others = ';'.join(address for name, address in ADDRESSES.items() if name != host)
        environment = os.environ | {
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_STATIC_PEERS': others,
            'ROS_DOMAIN_ID': '7',
        }
        enter = ['nsenter', '--target', str(self.shells[host].pid), '--net', '--mount']
        process = subprocess.Popen(
            [*enter, sys.executable, *map(str, command)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def start_node(self, host, executable, **parameters):
        """Start a node on a host."""
        arguments = [
            word
            for name, value in parameters.items()
            for word in ('-p', f'{name.replace("__", ".")}:={json.dumps(value)}')
        ]
        return self.start(
            host, '-m', f'flow_anomaly_ros.nodes.{executable}', '--ros-args', *arguments
        )

    def close(self):
        for process in (*self.processes, *self.shells.values()):
            process.kill()
            process.wait()
        for name in self.names.values():
            subprocess.run(['ip', 'netns', 'delete', name], check=False)


def ip(*arguments):
    subprocess.run(['ip', *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Two hosts; skips where this process must not make any."""
    if os.geteuid() or not (shutil.which('ip') and shutil.which('nsenter')):
        pytest.skip('network namespaces need root, iproute2 and util-linux')
    made = Hosts()
    try:
        made.open()
        yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f'no network namespaces here: {error.stderr.decode().strip()}')
    finally:
        made.close()


def test_a_cut_link_to_the_detector_rejects_every_part_until_it_is_mended(
    hosts, model_file, wait_for
):
    hosts.start_node(
        'gpu',
        'detector',
        camera__model=str(model_file),
        autostart=True,
        device='cpu',
        threads=1,
    )
    hosts.start_node('cell', 'rejecter', grouping='trigger', timeout=1.0, window=0.2)
    belt = hosts.start('cell', Path(__file__).with_name('belt.py'))
    sent, decisions = [], {}

    def read():
        for line in belt.stdout:
            first, second = line.split()
            if first == 'sent':
                sent.append(int(second))
            else:
                decisions[int(first)] = second

    threading.Thread(target=read, daemon=True).start()
    wait_for(
        lambda: list(decisions.values()).count('pass') >= 3,
        'parts that pass',
        seen=lambda: decisions,
        processes=hosts.processes,
    )

    hosts.connect(False)
    cut = sent[-1]
    wait_for(lambda: sent[-1] >= cut + 12, 'parts', processes=hosts.processes)
    mended = sent[-1]
    hosts.connect(True)
    wait_for(
        lambda: 'pass' in [decisions.get(part) for part in sent if part > mended],
        'a pass',
        seen=lambda: decisions,
        processes=hosts.processes,
    )
    # The part that was on its way when the link was cut may have made it.
    without_link = [decisions[part] for part in range(cut + 2, mended - 1)]
    assert len(without_link) >= 5
    assert set(without_link) == {'reject'}
