"""Separation of blocks as they come: what a model keeps between two blocks is handed in and out.

`state = begin(B)`, then `est, state = step(block, state)` for blocks of any length, and `finish(state)`: all estimates
together are those of the whole signal. The model itself keeps nothing, so that one model serves any number of streams,
a stream can be set back, and a graph of one step can be exported (the scheme of moshi's streaming modules, Défossez et
al. 2024, with the state outside).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from usepcli.dsp.consistency import Consistency
from usepcli.errors import BadInput, ConfigError


class State(NamedTuple):
    """What is kept of B streams between two blocks: nested tuples of tensors, never changed in place."""

    mix: Tensor  # (B, w): the last samples heard, whose estimates are not given yet
    lead: Tensor  # (a,): the first of these that lie before the first sample, in frames that begin there
    heard: Tensor  # (): number of samples heard
    inner: Any  # what the model itself keeps


class Streaming:
    """The half of a SeparationModel that takes blocks.

    A model that can implements `open`, `advance` and `close`; it is live where its settings allow it.
    """

    n_src: int
    hop: int
    causal: bool
    input_norm: str
    consistency: Consistency

    def open(self, batch: int) -> Any:
        """Return what the model keeps before the first block of `batch` streams."""
        raise NotImplementedError

    def advance(self, block: Tensor, kept: Any) -> tuple[Tensor, Any]:
        """Return the next estimates (B, N, k) that a block (B, t) settles, k >= 0, and what is kept then.

        The first of all estimates is that of sample -`ahead`.
        """
        raise NotImplementedError

    def close(self, kept: Any, heard: int, rest: int) -> Tensor:
        """Return the last `rest` estimates (B, N, rest) of a signal of `heard` samples."""
        raise NotImplementedError

    @property
    def ahead(self) -> int:
        """Samples before the first one at which the first frame begins."""
        return 0

    @property
    def live_stride(self) -> int:
        """Samples after which the pattern of given estimates repeats: a block of so many gives as many."""
        return self.hop

    def hindrances(self) -> list[str]:
        """Return what keeps the model from taking blocks, each with what to set; empty where nothing does."""
        if type(self).advance is Streaming.advance:
            return [f"{type(self).__name__} hears whole signals only (use model.name: convtasnet, preset: causal)"]
        found = [] if self.causal else ["model.causal is false (train with true)"]
        if self.input_norm != "none":
            found.append(f"model.input_norm '{self.input_norm}' reads the whole input (train with none)")
        if self.consistency not in ("none", "uniform"):
            found.append(f"model.consistency '{self.consistency}' reads whole estimates (use uniform or none)")
        return found

    @property
    def live(self) -> bool:
        """True if the model takes blocks as they come."""
        return not self.hindrances()

    @torch.no_grad()
    def begin(self, batch: int = 1) -> State:
        """Return the state of `batch` streams before their first block; ConfigError where the model is not live."""
        if found := self.hindrances():
            raise ConfigError(f"no live separation: {'; '.join(found)}")
        if batch < 1:
            raise BadInput(f"{batch} streams; expected at least one")
        mix = silence(self, batch, self.ahead)
        heard = torch.zeros((), dtype=torch.int64, device=mix.device)
        return State(mix, mix.new_zeros(self.ahead), heard, self.open(batch))

    @torch.no_grad()
    def step(self, block: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the float32 estimates (B, N, t') that the next block (B, t) settles, and the new state.

        t' may be 0: an estimate comes when `latency_samples` of input from its sample on are heard.
        BadInput for a block of another shape.
        """
        if block.dim() != 2 or block.shape[0] != state.mix.shape[0]:
            raise BadInput(f"block of shape {tuple(block.shape)}; expected ({state.mix.shape[0]}, samples)")
        block = block.float()
        est, inner = self.advance(block, state.inner)
        mix, count = torch.cat([state.mix, block], -1), est.shape[-1]
        early = min(count, state.lead.shape[0])
        est = self.consistent(est.float(), mix[..., :count])[..., early:]
        return est, State(mix[..., count:], state.lead[early:], state.heard + block.shape[1], inner)

    @torch.no_grad()
    def finish(self, state: State) -> Tensor:
        """Return the float32 estimates (B, N, rest) of all samples that still wait; BadInput before the first one."""
        heard = int(state.heard)
        if not heard:
            raise BadInput("stream without samples; expected at least one")
        est = self.close(state.inner, heard, state.mix.shape[-1]).float()
        return self.consistent(est, state.mix)[..., state.lead.shape[0] :]

    def consistent(self, est: Tensor, mix: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return est (B, N, t) after mixture consistency with mix (B, t)."""
        raise NotImplementedError

    def whole(self, mix: Tensor) -> Tensor:
        """Return the estimates (B, N, T) of a mixture (B, T) taken as one block: an `estimate` for free."""
        est, kept = self.advance(mix, self.open(mix.shape[0]))
        rest = self.ahead + mix.shape[-1] - est.shape[-1]
        return torch.cat([est, self.close(kept, mix.shape[-1], rest)], -1)[..., self.ahead :]


class Walk:
    """Runs layers on the next block: one with a `step` is handed what it kept of the last block.

    `step(x, kept) -> (y, kept)` gets None at the start. Layers are told apart by the order in which they are run.
    """

    def __init__(self, kept: Sequence[Any] = ()) -> None:
        """Take what the last walk left in `kept`; nothing at the start."""
        self._old = iter(kept) if kept else None
        self._new: list[Any] = []

    @property
    def kept(self) -> tuple[Any, ...]:
        """What to hand to the next walk."""
        return tuple(self._new)

    def __call__(self, layer: Layer, x: Tensor) -> Tensor:
        """Return what the layer makes of x."""
        if isinstance(layer, nn.Sequential):
            for part in layer:
                x = self(part, x)
            return x
        step: Any = getattr(layer, "step", None)
        if step is None:
            return layer(x)
        x, kept = step(x, None if self._old is None else next(self._old))
        self._new.append(kept)
        return x


Layer = Callable[[Tensor], Tensor]
Run = Callable[[Layer, Tensor], Tensor]  # a walk, or `at_once`


def at_once(layer: Layer, x: Tensor) -> Tensor:
    """Run a layer on a whole signal: the walk that keeps nothing."""
    return layer(x)


def silence(model: Any, *shape: int) -> Tensor:
    """Return float32 zeros on the model's device."""
    return torch.zeros(*shape, device=next(model.parameters()).device)


def named(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield (name, tensor) of all tensors in nested tuples, with names like inner.net.3.past."""
    if isinstance(state, Tensor):
        yield name, state
        return
    keys = getattr(state, "_fields", range(len(state)))
    for key, part in zip(keys, state, strict=True):
        yield from named(part, f"{name}.{key}" if name else str(key))


def refilled(state: Any, tensors: Iterator[Tensor]) -> Any:
    """Return nested tuples like `state` with the next of `tensors` in the place of each of its own."""
    if isinstance(state, Tensor):
        return next(tensors)
    parts = [refilled(part, tensors) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
