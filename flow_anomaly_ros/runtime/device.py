# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which device computes, and with how many threads."""

import torch


def select_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: `auto` (the first GPU if there is one, the CPU otherwise) or a torch device name
            such as `cpu` or `cuda:1`.

    Raises:
        ValueError: Unknown device, or one that this machine or this torch does not have.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        # The first sentence: a list of all that torch was built with may follow.
        why = ' '.join(str(error).split()).partition('. ')[0]
        msg = f'device {name!r} cannot be used ({why}): give auto, cpu or cuda'
        raise ValueError(msg) from error
    return device


def limit_threads(threads: int) -> None:
    """Let torch use this many CPU threads; 0 leaves its own choice.

    Two processes whose threads outnumber the cores wait for each other and become many times
    slower, so every process of a cell gets its share.
    """
    if threads > 0:
        torch.set_num_threads(threads)
