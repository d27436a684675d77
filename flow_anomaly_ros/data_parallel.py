# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Data-parallel work of the processes that `torchrun` starts; a single process does all of it.

Every process holds all samples, computes its share of them and gets the results of all: what is
made of those, such as weights, is the same everywhere. Without `torchrun` there is one process, the
functions return what they are given, and nothing is communicated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
import os
import socket
from typing import Any, TypeVar

import torch
from torch import distributed, nn, Tensor

# Set by torchrun.
VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
# A process that has inspected its share of an archive waits this long for slower ones. (One that
# dies is noticed by torchrun.)
COLLECTIVE_TIMEOUT = timedelta(hours=12)
LOOPBACK = 'lo'
# Exit status of a process that leaves because another one has failed.
EXIT_PEER_FAILED = 2

T = TypeVar('T')


def is_launched() -> bool:
    """Whether torchrun has started this process and others beside it."""
    return all(name in os.environ for name in VARIABLES) and int(os.environ['WORLD_SIZE']) > 1


@contextmanager
def process_group() -> Iterator[bool]:
    """Belong to the group of processes that torchrun has started; gives whether there is one.

    Within itself it does nothing more. CPUs communicate by gloo and GPUs by NCCL. Where an
    exception leaves this, the first process that fails lets it pass, to tell what is wrong, and the
    others end silently: most of them only fail because that one is gone.

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
    is_one_machine = os.environ['LOCAL_WORLD_SIZE'] == os.environ['WORLD_SIZE']
    if is_one_machine and LOOPBACK in dict(socket.if_nameindex()).values():
        # It needs neither a network nor a name that can be resolved.
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
        where = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
        msg = f'cannot join the other processes at {where}: {str(error).splitlines()[0]}'
        raise ValueError(msg) from error
    return store


def _is_first_failure(store: 'distributed.Store') -> bool:
    try:
        return store.add('flow_anomaly_ros/failures', 1) == 1
    except RuntimeError:
        # Torchrun is gone: better told twice than not at all.
        return True


def world_size() -> int:
    """Count the processes."""
    is_joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_joined else 1


def rank() -> int:
    """Return which process this is, 0 <= rank < world size; 0 is the one that tells and writes."""
    return distributed.get_rank() if world_size() > 1 else 0


def shard(count: int) -> slice:
    """Return which of so many samples are this process's: none if there are more processes."""
    size = world_size()
    return slice(count * rank() // size, count * (rank() + 1) // size)


def own_shard(rows: Tensor) -> Tensor:
    """Return this process's share of rows, of which there is one at least.

    A process that has none gets the first one: what it makes of that has no weight in
    `all_reduce_mean`, and not every operation can do with nothing.
    """
    mine = shard(len(rows))
    return rows[mine] if mine.stop > mine.start else rows[:1]


def shard_weight(count: int) -> float:
    """Return what share of so many samples is this process's, 0 to 1."""
    mine = shard(count)
    return (mine.stop - mine.start) / count


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        # Each of the processes goes on with the sum.
        return _AllReduce.forward(None, gradient)


def all_reduce(values: Tensor) -> Tensor:
    """Sum values of one shape over the processes.

    Gradients flow back into all processes: what is minimised is the sum of their losses.
    """
    return values if world_size() == 1 else _AllReduce.apply(values)


def all_reduce_mean(values: Tensor, count: int) -> Tensor:
    """Mean over so many samples, from each process's mean over its share of them."""
    share_of_all = shard_weight(count)
    # The mean over no samples is not a number.
    return all_reduce(values * share_of_all if share_of_all else torch.zeros_like(values))


def all_gather(rows: Tensor, count: int) -> Tensor:
    """Rows of all of so many samples, from each process's share; differentiable as `all_reduce`."""
    if world_size() == 1:
        return rows
    mine = shard(count)
    before, behind = (rows.new_zeros(n, *rows.shape[1:]) for n in (mine.start, count - mine.stop))
    return all_reduce(torch.cat([before, rows, behind]))


def map_sharded(
    function: Callable[[slice], Sequence[Tensor]],
    count: int,
    batch: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> list[Tensor]:
    """Apply a function to samples, a batch at a time, each process to its share.

    Args:
        function: Called with which samples; returns tensors with a row for each of them.
        count: How many samples there are, 1 or more.
        batch: Samples in a call, at most.
        on_step: Called after every call with how many there were and will have been.

    Returns:
        The tensors with the rows of all samples.
    """
    mine = shard(count)
    # A process without a share computes a row all the same: it has to know the shape.
    stop = max(mine.stop, mine.start + 1)
    starts = range(mine.start, stop, batch)
    parts = []
    for step, start in enumerate(starts, start=1):
        parts.append(function(slice(start, min(start + batch, stop))))
        on_step(step, len(starts))
    columns = [list(column) for column in zip(*parts, strict=True)]
    parts.clear()
    joined_columns = []
    for column in columns:
        joined_columns.append(all_gather(torch.cat(column)[: mine.stop - mine.start], count))
        # Features of many images fill the memory.
        column.clear()
    return joined_columns


@torch.no_grad()
def all_reduce_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Give every parameter the sum of its gradients in all processes."""
    if world_size() == 1:
        return
    # All in one message. Parameters that no process has a gradient of stay without.
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    present = torch.tensor([p.grad is not None for p in parameters]).to(gradients[0])
    *sums, present = all_reduce(torch.cat([*(x.flatten() for x in gradients), present])).split(
        [*(p.numel() for p in parameters), len(parameters)]
    )
    for parameter, gradient, count in zip(parameters, sums, present.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if count else None


@torch.no_grad()
def broadcast(*modules: nn.Module) -> float:
    """Give modules the parameters and buffers of the first process.

    Returns:
        How far those of other processes were from them, relative to the largest value of a tensor.
    """
    if world_size() == 1:
        return 0.0
    tensors = [x for one in modules for x in (*one.parameters(), *one.buffers())]
    difference = torch.zeros(())
    for values in tensors:
        first = values.clone(memory_format=torch.contiguous_format)
        distributed.broadcast(first, 0)
        if first.numel():
            error = values.double() - first.double()
            largest, most = (x.double().abs().max().cpu() for x in (error, first))
            difference = torch.maximum(difference, largest / most.clamp(min=1e-12))
        values.copy_(first)
    return float(all_reduce(difference))


def require_same(value: str, what: str) -> None:
    """Check that all processes were given the same.

    Args:
        value: What this process was given.
        what: How to call it.

    Raises:
        ValueError: Some process was given something else.
    """
    if len(set(all_gather_object(value))) > 1:
        msg = f'the processes do not have the same {what}: start them all alike'
        raise ValueError(msg)


def all_gather_object(one: T) -> list[T]:
    """Return an object of each process, in the order of their ranks."""
    if world_size() == 1:
        return [one]
    everyone = [one] * world_size()
    distributed.all_gather_object(everyone, one)
    return everyone


def all_gather_indexed(results: Mapping[int, T]) -> list[T]:
    """Join results of all processes in the order of their indices."""
    everyone = {index: x for one in all_gather_object(results) for index, x in one.items()}
    return [everyone[index] for index in sorted(everyone)]


def barrier() -> None:
    """Return when all processes have come here: torchrun ends all when one leaves with an error."""
    all_gather_object(None)
