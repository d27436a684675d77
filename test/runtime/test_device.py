# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Processes of torchrun share the cores and the GPUs of a machine."""

import os

from flow_anomaly_ros.runtime.device import limit_threads, select_device
import pytest
import torch


@pytest.fixture
def launched(monkeypatch):
    """Be the second of four processes, two of which are on this machine."""
    values = {
        'RANK': '1',
        'WORLD_SIZE': '4',
        'LOCAL_RANK': '1',
        'LOCAL_WORLD_SIZE': '2',
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': '1',
        'OMP_NUM_THREADS': '1',
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def threads(monkeypatch):
    """Numbers of threads that were set, on a machine with 16 cores."""
    numbers = []
    monkeypatch.setattr(torch, 'set_num_threads', numbers.append)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _pid: set(range(16)), raising=False)
    return numbers


def test_every_process_gets_its_share_of_the_cores(launched, threads):
    limit_threads(0)
    limit_threads(3)
    assert threads == [8, 3]


def test_a_chosen_number_of_threads_is_kept(launched, threads):
    launched.setenv('OMP_NUM_THREADS', '4')
    limit_threads(0)
    assert threads == []


def test_a_single_process_keeps_the_thread_count_of_torch(threads):
    limit_threads(0)
    assert threads == []


@pytest.mark.parametrize('name', ['auto', 'cuda'])
def test_every_process_gets_its_own_gpu(launched, name):
    chosen = []
    launched.setattr(torch.cuda, 'is_available', lambda: True)
    launched.setattr(torch.cuda, 'set_device', chosen.append)
    launched.setattr(torch, 'zeros', lambda _size, device: torch.ones(1))
    assert select_device(name) == torch.device('cuda:1')
    assert chosen == [torch.device('cuda:1')]


def test_one_gpu_cannot_be_shared(launched):
    with pytest.raises(ValueError, match=r"'cuda:0' cannot be shared .*: use auto or cuda"):
        select_device('cuda:0')
    assert select_device('cpu').type == 'cpu'
