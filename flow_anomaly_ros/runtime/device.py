# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which device computes, and with how many threads."""

import os

from flow_anomaly_ros.data_parallel import is_launched
import torch


def select_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: `auto` (the first GPU if there is one, the CPU otherwise) or a torch device name
            such as `cpu` or `cuda:1`. Under torchrun every process has a GPU of its own.

    Raises:
        ValueError: Unknown device, or one that this machine or this torch does not have.
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    if name.startswith('cuda') and is_launched():
        if name != 'cuda':
            msg = (
                f'device {name!r} cannot be shared by the processes of torchrun: give auto or cuda'
            )
            raise ValueError(msg)
        name = f'cuda:{os.environ["LOCAL_RANK"]}'
    try:
        device = torch.device(name)
    except RuntimeError as error:
        # The reason is a list of all that torch has ever known.
        msg = f'device {name!r} cannot be used: give auto, cpu or cuda'
        raise ValueError(msg) from error
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        # The first sentence: a list of all that torch was built with may follow.
        why = ' '.join(str(error).split()).partition('. ')[0]
        msg = f'device {name!r} cannot be used ({why}): give auto, cpu or cuda'
        raise ValueError(msg) from error
    if device.type == 'cuda' and is_launched():
        # What NCCL communicates by.
        torch.cuda.set_device(device)
    return device


def limit_threads(threads: int) -> None:
    """Let torch use this many CPU threads; 0 leaves its own choice.

    Under torchrun that is this process's share of the cores, and not the single thread that
    torchrun chooses unless OMP_NUM_THREADS says something else.

    Two processes whose threads outnumber the cores wait for each other and become many times
    slower, so every process of a cell gets its share.
    """
    if not threads and is_launched() and os.environ.get('OMP_NUM_THREADS') == '1':
        threads = max(1, len(os.sched_getaffinity(0)) // int(os.environ['LOCAL_WORLD_SIZE']))
    if threads > 0:
        torch.set_num_threads(threads)
