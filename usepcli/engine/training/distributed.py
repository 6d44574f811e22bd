"""Several processes as one: gradients averaged, flags agreed upon, files written by rank 0 alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from usepcli.engine.training import watch as watching
from usepcli.engine.training.apart import Apart
from usepcli.engine.training.place import place
from usepcli.engine.training.watch import Watch
from usepcli.errors import MissingDependency

# What the ranks wait for each other at most. That one is gone or stands still is found out beside their exchanges, and
# much sooner; this bound is for what nobody thought of.
LAST_RESORT = timedelta(days=7)


class Ranks:
    """This process's place among those that share its batches; a single process is rank 0 of 1.

    timeout_s: how long a data worker may take, by which a rank that stands still is told; 0: for ever.
    kind: of the device that the ranks compute on. MissingDependency where a machine has fewer GPUs than ranks.
    """

    def __init__(self, watch: Watch | None = None, timeout_s: float = 0.0, kind: str = "cpu") -> None:
        self.rank, self.world, self.local = place()
        self._turn = 0
        self._watch = watch or Watch(place()) if self.world > 1 else None
        if self._watch is None or dist.is_initialized():
            return
        if timeout_s:
            silent_s = max(watching.LEAST_SILENT_S, min(watching.SILENT_S, timeout_s))
            self._watch.silent_s, self._watch.stall_s = silent_s, 2 * timeout_s
        if kind == "cuda":
            if self.local >= torch.cuda.device_count():
                raise MissingDependency(
                    f"train.device: {torch.cuda.device_count()} GPUs for more ranks on one machine; start as "
                    "many ranks as there are, or set it to cpu"
                )
            torch.cuda.set_device(self.local)
        backend = "nccl" if kind == "cuda" else "gloo"
        store = self._watch.connect()
        self._meet(lambda: dist.init_process_group(
            backend, store=store, rank=self.rank, world_size=self.world, timeout=LAST_RESORT
        ))  # fmt: skip

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
        self._meet(lambda: dist.all_reduce(flat))
        flat /= self.world
        at = 0
        for parameter, grad in zip(held, grads, strict=True):
            parameter.grad = flat[at : at + grad.numel()].view_as(grad).clone()
            at += grad.numel()

    def most(self, value: float, device: torch.device) -> float:
        """Return the largest of all ranks' values."""
        if self.world == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=device)
        self._meet(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX))
        return float(tensor.item())

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether any rank raised the flag; every rank gets the same answer."""
        return self.most(float(flag), device) > 0

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a detached scalar over the ranks."""
        if self.world == 1:
            return value
        value = value.detach().clone()
        self._meet(lambda: dist.all_reduce(value))
        return value / self.world

    def means(self, figures: dict[str, float], device: torch.device) -> dict[str, float]:
        """Return each figure's mean over the ranks that have it, nan where none does."""
        if self.world == 1:
            return figures
        every = self.gathered([figures], device)
        found: dict[str, list[float]] = {}
        for name, value in (pair for one in every for pair in one.items()):
            found.setdefault(name, []).extend([value] if math.isfinite(value) else [])
        return {name: math.fsum(values) / len(values) if values else math.nan for name, values in found.items()}

    def gathered(self, items: list[Any], device: torch.device) -> list[Any]:
        """Return the items of all ranks, what JSON can hold, in the order of the ranks."""
        longest = int(self.most(len(items) and len(json.dumps(items)), device))
        if self.world == 1 or not longest:
            return items
        text = json.dumps(items).encode().ljust(longest)
        own = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)
        found = [torch.empty_like(own) for _ in range(self.world)]
        self._meet(lambda: dist.all_gather(found, own))
        return [item for one in found for item in json.loads(bytes(one.tolist()))]

    def same_start(self, module: nn.Module) -> None:
        """Copy rank 0's parameters and buffers to all ranks."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                self._meet(partial(dist.broadcast, tensor, 0))

    def agree(self, facts: Mapping[str, Any], what: str) -> None:
        """Raise ConfigError on a rank whose facts are not rank 0's; what: names them, in the plural."""
        if self._watch:
            self._turn += 1
            self._watch.agreed(f"facts/{self._turn}", facts, what)

    def of_main(self, work: Callable[[], float], stopped: Callable[[], None]) -> float:
        """Return on every rank what rank 0's work returns, however long it takes.

        stopped: called now and then by those that wait; may raise.
        """
        if self._watch is None:
            return work()
        self._turn += 1
        self._watch.rest()
        if self.main:
            value = work()
            self._watch.give(f"turn/{self._turn}", value.hex())
            return value
        return float.fromhex(self._watch.take(f"turn/{self._turn}", stopped))

    def shares(self, size: int, parts: int, mixes: str) -> list[str]:
        """Return what is to be said before the first step of several ranks that share `size` examples in `parts`.

        mixes: what the objective does with several examples of a micro-batch together, '' for nothing.
        """
        if self.world == 1:
            return []
        said = f"{self.world} ranks take {size // self.world} of the {size} examples of a step each"
        if mixes:
            said += f"; {mixes} stays within {size // parts} of them, so others meet than in one process"
        return [said]

    def record(self, folder: Path) -> None:
        """Note the folder whose run is this process's own."""
        if self._watch:
            self._watch.folder = folder

    def begin(self, folder: Path, ask: Callable[[str], None]) -> None:
        """Note that the loop begins in a folder that is this run's by now, and how it is asked for a stop."""
        if self._watch:
            self._watch.folder, self._watch.ask = folder, ask

    def step(self, step: int) -> None:
        """Note that a step begins."""
        if self._watch:
            self._watch.step(step)

    def leave(self) -> None:
        """Wait until all ranks have come to their end; from here on none misses another."""
        if self._watch:
            self._watch.leave()
            self._watch.over()

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _meet(self, exchange: Callable[[], Any]) -> None:
        """Run an exchange; Apart where it breaks."""
        assert self._watch is not None
        self._watch.waiting(True)
        try:
            exchange()
        except RuntimeError as fault:
            first = str(fault).splitlines()[0]
            raise Apart(f"rank {self.rank}: lost the other ranks ({first}); run the same command again") from fault
        finally:
            self._watch.waiting(False)
