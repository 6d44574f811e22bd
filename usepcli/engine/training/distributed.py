"""Several processes as one: gradients averaged, flags agreed upon, files written by rank 0 alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from usepcli.errors import WorkerDied


class Ranks:
    """This process's place among those that torchrun started; a single process is rank 0 of 1."""

    def __init__(self, timeout_s: float = 600.0) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.local = int(os.environ.get("LOCAL_RANK", "0"))
        if self.world > 1 and not dist.is_initialized():
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            if backend == "nccl":
                torch.cuda.set_device(self.local)
            dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))

    @property
    def main(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks, in one flat exchange.

        Equal shares of the batch make this the gradient of the global mean. A value that is not finite on
        one rank reaches all, so that every rank takes the same decision about the step.
        """
        if self.world == 1:
            return
        held = [p for p in parameters if p.requires_grad]
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in held]
        flat = torch.cat([g.reshape(-1) for g in grads])
        self._reduce(flat, dist.ReduceOp.SUM)
        flat /= self.world
        at = 0
        for parameter, grad in zip(held, grads, strict=True):
            parameter.grad = flat[at : at + grad.numel()].view_as(grad).clone()
            at += grad.numel()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether any rank raised the flag; every rank gets the same answer."""
        if self.world == 1:
            return flag
        tensor = torch.tensor([float(flag)], device=device)
        self._reduce(tensor, dist.ReduceOp.MAX)
        return bool(tensor.item() > 0)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a detached scalar over the ranks."""
        if self.world == 1:
            return value
        value = value.detach().clone()
        self._reduce(value, dist.ReduceOp.SUM)
        return value / self.world

    def same_start(self, module: nn.Module) -> None:
        """Copy rank 0's parameters and buffers to all ranks."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def share(self, value: float, device: torch.device) -> float:
        """Return rank 0's value on every rank."""
        if self.world == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=device)
        dist.broadcast(tensor, 0)
        return float(tensor.item())

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group; without the barrier a rank may abort while another still writes."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _reduce(self, tensor: Tensor, op: dist.ReduceOp.RedOpType) -> None:
        try:
            dist.all_reduce(tensor, op)
        except RuntimeError as fault:
            first = str(fault).splitlines()[0]
            raise WorkerDied(
                f"rank {self.rank}: another rank ended or hangs ({first}); run the same command again"
            ) from fault
