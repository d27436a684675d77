# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Selects the device, and the number of CPU threads."""

import os

from flow_anomaly_ros.data_parallel import is_launched
import torch


def select_device(name: str) -> torch.device:
    """Return a device by its name.

    Args:
        name: `auto` (the first GPU if there is one, the CPU otherwise) or a torch device name
            such as `cpu` or `cuda:1`. Under torchrun every process has its own GPU.

    Raises:
        ValueError: Unknown device, or one that this machine or this torch does not have.
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    if name.startswith('cuda') and is_launched():
        if name != 'cuda':
            msg = f'device {name!r} cannot be shared by the processes of torchrun: use auto or cuda'
            raise ValueError(msg)
        name = f'cuda:{os.environ["LOCAL_RANK"]}'
    try:
        device = torch.device(name)
    except RuntimeError as error:
        # torch lists every device type it has ever had.
        msg = f'device {name!r} is not available: use auto, cpu or cuda'
        raise ValueError(msg) from error
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        # The first sentence; a long list may follow.
        why = ' '.join(str(error).split()).partition('. ')[0]
        msg = f'device {name!r} is not available ({why}): use auto, cpu or cuda'
        raise ValueError(msg) from error
    if device.type == 'cuda' and is_launched():
        # NCCL communicates through this device.
        torch.cuda.set_device(device)
    return device


def limit_threads(threads: int) -> None:
    """Set the number of CPU threads of torch; 0 keeps its default.

    Under torchrun the default is this process's share of the cores, not torchrun's single thread,
    unless OMP_NUM_THREADS is set to something else.

    Processes whose threads outnumber the cores become many times slower, since waiting threads
    spin: give every process of a machine its share.
    """
    if not threads and is_launched() and os.environ.get('OMP_NUM_THREADS') == '1':
        threads = max(1, len(os.sched_getaffinity(0)) // int(os.environ['LOCAL_WORLD_SIZE']))
    if threads > 0:
        torch.set_num_threads(threads)
