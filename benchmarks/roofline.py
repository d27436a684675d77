#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How far each stage of a detector is from what the device could do. See README.md.

The roofline of an operation is the longer of two times: its arithmetic at the device's greatest
rate of products of matrices, and its inputs and outputs at the greatest rate of copying. Both rates
are measured here. Pointwise operations can be part of others and count nothing.
"""

import argparse
from collections.abc import Callable, Sequence
import json
from pathlib import Path
import sys
import time
from typing import Any

from flow_anomaly_ros.data.folder import load_good_images, read_folder
from flow_anomaly_ros.layers.inference import fuse_for_inference
from flow_anomaly_ros.runtime.artifact import load_artifact
from flow_anomaly_ros.runtime.backends.base import PRECISIONS
from flow_anomaly_ros.runtime.backends.pytorch import PyTorchBackend
from flow_anomaly_ros.runtime.benchmark import profile_stages
from flow_anomaly_ros.runtime.device import limit_threads, select_device
from flow_anomaly_ros.runtime.engine import Engine
import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# Side of the matrices that are multiplied, and bytes that are copied, by type of device.
SIDE = {'cpu': 2048, 'cuda': 8192}
COPIED = {'cpu': 2**28, 'cuda': 2**32}
TRIES = 5
UNCOUNTED = 3


class Roofline(TorchDispatchMode):
    """Adds up the rooflines of all operations.

    Args:
        rate: Floating-point operations in a millisecond.
        bandwidth: Bytes in a millisecond.

    Attributes:
        milliseconds: Of all operations so far.
    """

    def __init__(self, rate: float, bandwidth: float) -> None:
        super().__init__()
        self.rate = rate
        self.bandwidth = bandwidth
        self.milliseconds = 0.0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func.is_view or torch.Tag.pointwise in func.tags:
            return output
        count = flop_registry.get(func.overloadpacket)
        operations = count(*args, **kwargs, out_val=output) if count else 0
        tensors = [x for x in tree_leaves((args, kwargs, output)) if isinstance(x, Tensor)]
        moved = sum(x.numel() * x.element_size() for x in tensors)
        self.milliseconds += max(operations / self.rate, moved / self.bandwidth)
        return output


def main() -> int:
    """Measure, print a table for each batch size, write the figures."""
    arguments = _parse()
    if arguments.threads:
        limit_threads(arguments.threads)
    device, dtype = select_device(arguments.device), getattr(torch, arguments.precision)
    rate, bandwidth = _rate(device, dtype), _bandwidth(device)
    print(
        f'{_name(device)}: {rate / 1e9:.2f} TFLOP/s in {arguments.precision}, '
        f'{bandwidth / 1e6:.1f} GB/s'
    )
    options = {'device': str(device), 'precision': arguments.precision}
    engine = Engine.load(arguments.model, **options)
    # Not frozen whole: what packed operations compute, nothing says.
    counted = Engine.of(*load_artifact(arguments.model), **options)
    assert isinstance(counted.backend, PyTorchBackend)
    fuse_for_inference(counted.backend.detector)
    compiled = Engine.load(arguments.model, compiled=True, **options) if arguments.compile else None
    good = [*load_good_images(read_folder(arguments.data), max(arguments.batches)).images]
    found = {}
    for batch in arguments.batches:
        # Of any of the engines: they differ in how they compute alone.
        images = engine.backend.prepare((good * batch)[:batch])
        ideal = _rooflines(counted, images, dtype, Roofline(rate, bandwidth))
        spent = _stages(engine, images, arguments.runs)
        spent['total'] = _timed(_detection(engine, images), arguments.runs)
        if compiled:
            spent['compiled'] = _timed(_detection(compiled, images), arguments.runs)
            ideal['compiled'] = ideal['total']
        found[batch] = {
            name: {
                'median': float(np.median(times)),
                'p95': float(np.quantile(times, 0.95)),
                'roofline': ideal[name],
            }
            for name, times in spent.items()
        }
        print(f'\n{batch} at a time\n\n{_table(found[batch], batch)}')
    if arguments.json:
        about = {'device': _name(device), 'rate': rate, 'bandwidth': bandwidth, **options}
        arguments.json.write_text(json.dumps({**about, 'batches': found}, indent=2) + '\n')
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', type=Path, help='a .safetensors file')
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--device', default='auto')
    parser.add_argument('--precision', choices=PRECISIONS, default='float32')
    parser.add_argument('--compile', action='store_true', help='time it compiled, too')
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 16])
    parser.add_argument('--runs', type=int, default=50)
    parser.add_argument('--threads', type=int, default=0)
    parser.add_argument('--json', type=Path)
    return parser.parse_args()


def _table(rows: dict[str, dict[str, float]], batch: int) -> str:
    lines = [
        '| | median ms | p95 ms | images/s | roofline ms | share |',
        '|---|---|---|---|---|---|',
    ]
    for name, row in rows.items():
        median, least = row['median'], row['roofline']
        lines.append(
            f'| {name} | {median:.2f} | {row["p95"]:.2f} | {1e3 * batch / median:.0f} '
            f'| {least:.3f} | {least / median:.0%} |'
        )
    return '\n'.join(lines)


def _name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{device}, {torch.get_num_threads()} threads'


def _detection(engine: Engine, images: Tensor) -> Callable[[], object]:
    """From images of the model's size, on the device, to scores on the host."""
    return lambda: engine.backend.detect(images, [None] * len(images))


def _stages(engine: Engine, images: Tensor, runs: int) -> dict[str, list[float]]:
    """Milliseconds of each stage; those that wait for one another take longer in all."""
    found: dict[str, list[float]] = {}
    detect = _detection(engine, images)
    for run in range(runs + UNCOUNTED):
        with profile_stages(engine) as spent:
            detect()
        if run >= UNCOUNTED:
            for stage, milliseconds in spent.items():
                found.setdefault(stage, []).append(milliseconds)
    return found


def _rooflines(
    engine: Engine, images: Tensor, dtype: torch.dtype, roofline: Roofline
) -> dict[str, float]:
    """Milliseconds of each stage, and in total, on the roofline."""
    backend = engine.backend
    assert isinstance(backend, PyTorchBackend)
    with (
        # In inference mode, that of a backend, some operations are not taken apart, and not known.
        torch.no_grad(),
        torch.autocast(backend.device.type, dtype, enabled=dtype != torch.float32),
        roofline,
        profile_stages(engine, lambda: roofline.milliseconds) as spent,
    ):
        backend.detector(images)
    return {**spent, 'total': roofline.milliseconds}


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations in a millisecond, of products of matrices."""
    side = SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(_timed(lambda: left @ right, TRIES, device))


def _bandwidth(device: torch.device) -> float:
    """Bytes in a millisecond, read and written."""
    count = COPIED[device.type]
    source, target = (torch.zeros(count, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * count / min(_timed(lambda: target.copy_(source), TRIES, device))


def _timed(
    function: Callable[[], object], runs: int, device: torch.device | None = None
) -> list[float]:
    found: list[float] = []
    for _ in range(runs + UNCOUNTED):
        started = time.perf_counter()
        function()
        if device is not None and device.type == 'cuda':
            torch.cuda.synchronize(device)
        found.append(1e3 * (time.perf_counter() - started))
    return found[UNCOUNTED:]


if __name__ == '__main__':
    sys.exit(main())
