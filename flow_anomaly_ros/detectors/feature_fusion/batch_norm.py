# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation over a batch that is distributed over processes."""

from flow_anomaly_ros import data_parallel
import torch
from torch import nn, Tensor


class BatchNorm(nn.BatchNorm2d):
    """Synchronised `nn.BatchNorm2d` that works on CPUs.

    PyTorch's SyncBatchNorm supports GPUs only. A process may have no image of the batch.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, maps: Tensor) -> Tensor:
        """BxCxHxW maps to maps of the same shape."""
        if not self.training or data_parallel.world_size() == 1:
            return super().forward(maps)
        assert self.momentum is not None
        dimensions = (0, 2, 3)
        positions = maps.new_tensor([maps.numel() / maps.shape[1]])
        *_, count = sums = data_parallel.all_reduce(torch.cat([maps.sum(dimensions), positions]))
        mean = sums[:-1] / count
        centred = maps - mean[:, None, None]
        variance = data_parallel.all_reduce(centred.square().sum(dimensions)) / count
        with torch.no_grad():
            # As in PyTorch, the running variance is the unbiased one.
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]
