"""A norm over the batch whose state is means and variances alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Every feature over its deviation in a batch: (B, dim, ...) to the same; without a count of batches."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return x over the deviations of this batch in training, over those of the training else."""
        learning = self.training and x.numel() > x.shape[1]  # a single number has no deviation
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, learning)
