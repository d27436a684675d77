# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Data-parallel computation in the processes that `torchrun` starts.

Each process holds all samples, computes its shard and receives the results of all processes, so
everything derived from the results, such as weights, is the same in each. Without `torchrun` there
is one process: the functions return their arguments and communicate nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
import os
import socket
from typing import Any, TypeVar

from flow_anomaly_ros.errors import error_first_line
import torch
from torch import distributed, nn, Tensor

# Environment variables that torchrun sets.
TORCHRUN_VARIABLES = (
    'RANK',
    'WORLD_SIZE',
    'LOCAL_RANK',
    'LOCAL_WORLD_SIZE',
    'MASTER_ADDR',
    'MASTER_PORT',
)
# How long a process waits for slower ones, for example when it has inspected its shard of an
# archive. A process that dies is detected by torchrun, not by this timeout.
COLLECTIVE_TIMEOUT = timedelta(hours=12)
LOOPBACK = 'lo'
# Exit status of a process that ends because another one has failed.
EXIT_PEER_FAILED = 2

T = TypeVar('T')


def is_launched() -> bool:
    """Whether torchrun has started this process together with others."""
    return (
        all(name in os.environ for name in TORCHRUN_VARIABLES) and int(os.environ['WORLD_SIZE']) > 1
    )


@contextmanager
def process_group() -> Iterator[bool]:
    """Join the group of processes that torchrun has started, if any.

    CPU tensors use gloo, GPU tensors NCCL. A nested call does nothing. If the body raises, only
    the first process to fail lets the exception pass; the others exit silently with
    `EXIT_PEER_FAILED`, since most of them fail only because the first one is gone.

    Yields:
        Whether there is a group.

    Raises:
        ValueError: The other processes cannot be reached.
    """
    if not is_launched() or world_size() > 1:
        yield is_launched()
        return
    store = _join()
    try:
        yield True
    except (Exception, KeyboardInterrupt):
        if not _is_first_failure(store):
            raise SystemExit(EXIT_PEER_FAILED) from None
        raise
    distributed.destroy_process_group()


def _join() -> 'distributed.Store':
    is_single_host = os.environ['LOCAL_WORLD_SIZE'] == os.environ['WORLD_SIZE']
    if is_single_host and LOOPBACK in dict(socket.if_nameindex()).values():
        # The loopback device needs neither a network nor a resolvable host name.
        os.environ.setdefault('GLOO_SOCKET_IFNAME', LOOPBACK)
    has_nccl = torch.cuda.is_available() and distributed.is_nccl_available()
    try:
        store, rank, size = next(iter(distributed.rendezvous('env://')))
        distributed.init_process_group(
            'cpu:gloo,cuda:nccl' if has_nccl else 'gloo',
            store=store,
            rank=rank,
            world_size=size,
            timeout=COLLECTIVE_TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        address = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
        msg = f'cannot join the other processes at {address}: {error_first_line(error)}'
        raise ValueError(msg) from error
    return store


def _is_first_failure(store: 'distributed.Store') -> bool:
    try:
        return store.add('flow_anomaly_ros/failures', 1) == 1
    except RuntimeError:
        # torchrun is gone: reporting the error twice is better than not at all.
        return True


def world_size() -> int:
    """Return the number of processes."""
    is_joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_joined else 1


def rank() -> int:
    """Return the rank of this process, 0 <= rank < world size; rank 0 prints and writes files."""
    return distributed.get_rank() if world_size() > 1 else 0


def shard(count: int) -> slice:
    """Return the samples of this process.

    Args:
        count: Number of all samples.

    Returns:
        A slice of their indices; it may be empty if there are fewer samples than processes.
    """
    size = world_size()
    return slice(count * rank() // size, count * (rank() + 1) // size)


def own_shard(rows: Tensor) -> Tensor:
    """Return the rows of this process.

    A process without rows gets the first row, since many operations fail on empty tensors;
    `all_reduce_mean` gives its result no weight.

    Args:
        rows: Rows of all samples, at least one.
    """
    mine = shard(len(rows))
    return rows[mine] if mine.stop > mine.start else rows[:1]


def shard_weight(count: int) -> float:
    """Return the fraction of `count` samples that this process has, 0 to 1."""
    mine = shard(count)
    return (mine.stop - mine.start) / count


class _AllReduce(torch.autograd.Function):
    """Sums over the processes, forwards and backwards."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        # Each process continues with the sum, so its gradient is the sum of all gradients.
        return _AllReduce.forward(None, gradient)


def all_reduce(values: Tensor) -> Tensor:
    """Sum tensors of the same shape over all processes.

    Differentiable: gradients flow back to all processes, as of the sum of their losses.
    """
    return values if world_size() == 1 else _AllReduce.apply(values)


def all_reduce_mean(values: Tensor, count: int) -> Tensor:
    """Return the mean over all samples.

    Args:
        values: Mean over the samples of this process.
        count: Number of all samples.
    """
    weight = shard_weight(count)
    # The mean over an empty shard is NaN.
    return all_reduce(values * weight if weight else torch.zeros_like(values))


def all_gather(rows: Tensor, count: int) -> Tensor:
    """Concatenate the rows of all processes; differentiable as `all_reduce` is.

    Args:
        rows: Rows of the samples of this process.
        count: Number of all samples.
    """
    if world_size() == 1:
        return rows
    mine = shard(count)
    before, after = (rows.new_zeros(n, *rows.shape[1:]) for n in (mine.start, count - mine.stop))
    return all_reduce(torch.cat([before, rows, after]))


def map_sharded(
    function: Callable[[slice], Sequence[Tensor]],
    count: int,
    batch: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> list[Tensor]:
    """Apply a function to all samples, in batches; each process computes its shard.

    Args:
        function: Called with a slice of sample indices; returns tensors with one row per sample.
        count: Number of samples, 1 or more.
        batch: Maximum number of samples per call.
        on_step: Called after each call with the number of calls so far and the number of all calls
            of this process.

    Returns:
        The tensors that `function` returns, with the rows of all samples.
    """
    mine = shard(count)
    # A process with an empty shard computes one row as well, to learn the shape of the rows.
    stop = max(mine.stop, mine.start + 1)
    starts = range(mine.start, stop, batch)
    batches = []
    for step, start in enumerate(starts, start=1):
        batches.append(function(slice(start, min(start + batch, stop))))
        on_step(step, len(starts))
    columns = [list(column) for column in zip(*batches, strict=True)]
    batches.clear()
    gathered = []
    for column in columns:
        gathered.append(all_gather(torch.cat(column)[: mine.stop - mine.start], count))
        # Frees the memory: features of many images fill it.
        column.clear()
    return gathered


@torch.no_grad()
def all_reduce_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradient of each parameter by the sum of its gradients over all processes."""
    if world_size() == 1:
        return
    # One message for all parameters. A parameter without gradient in any process keeps None.
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    present = torch.tensor([p.grad is not None for p in parameters]).to(gradients[0])
    *sums, present = all_reduce(torch.cat([*(x.flatten() for x in gradients), present])).split(
        [*(p.numel() for p in parameters), len(parameters)]
    )
    for parameter, gradient, count in zip(parameters, sums, present.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if count else None


@torch.no_grad()
def broadcast(*modules: nn.Module) -> float:
    """Copy parameters and buffers of the modules in rank 0 to all other processes.

    Returns:
        The largest difference from rank 0 before the copy, relative to the largest value of its
        tensor, summed over the processes.
    """
    if world_size() == 1:
        return 0.0
    tensors = [x for module in modules for x in (*module.parameters(), *module.buffers())]
    difference = torch.zeros(())
    for values in tensors:
        first = values.clone(memory_format=torch.contiguous_format)
        distributed.broadcast(first, 0)
        if first.numel():
            error = values.double() - first.double()
            max_error, max_value = (x.double().abs().max().cpu() for x in (error, first))
            difference = torch.maximum(difference, max_error / max_value.clamp(min=1e-12))
        values.copy_(first)
    return float(all_reduce(difference))


def require_same(value: str, what: str) -> None:
    """Check that a value is the same in all processes.

    Args:
        value: The value in this process.
        what: Its name in the error message, a plural noun.

    Raises:
        ValueError: Another process has another value.
    """
    if len(set(all_gather_object(value))) > 1:
        msg = f'the processes have different {what}: start all of them with the same arguments'
        raise ValueError(msg)


def all_gather_object(value: T) -> list[T]:
    """Return the objects of all processes, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    values = [value] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_gather_indexed(results: Mapping[int, T]) -> list[T]:
    """Return the results of all processes, sorted by their indices.

    Args:
        results: Results of this process by the index of their sample.
    """
    merged = {index: x for part in all_gather_object(results) for index, x in part.items()}
    return [merged[index] for index in sorted(merged)]


def barrier() -> None:
    """Wait until all processes have reached this call.

    A process that fails before it never arrives; torchrun then ends the others.
    """
    all_gather_object(None)
