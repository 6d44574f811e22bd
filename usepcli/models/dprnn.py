"""Dual-path RNN on a learned basis: RNNs within and across half-overlapping chunks (Luo, Chen & Yoshioka 2020).

x <- x + norm(W rnn(x)) along the frames of every chunk, then along the chunks for every place in them; other paths
stand in dual_paths.py. `output: direct` has no masks: the network's features are averaged, as many neighbours as a
frame has samples, and what comes out is overlapped and added (Nachmani, Adi & Wolf 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import framing, masks
from usepcli.dsp.masks import RealMask, masks_of
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.models.basis import Activation, AveragedBasis, LearnedBasis, Padding
from usepcli.models.dense import Dense, Pointwise
from usepcli.models.dual_paths import AttentionPath, GatedPath, RowAttentionPath, added, rows_of
from usepcli.models.recurrent import recur
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.streaming import Run, Walk, at_once, silence
from usepcli.models.tcn import ChannelNorm, GlobalNorm

Norm = Literal["gln", "channel", "none"]
Kind = Literal["rnn", "gated", "dptnet", "dptnet_rows"]
Output = Literal["mask", "direct"]
Rnn = Literal["lstm", "gru", "rnn"]

NORMS: dict[str, Callable[[int], nn.Module]] = {"gln": GlobalNorm, "channel": ChannelNorm, "none": nn.Identity}
RNNS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}

# Frames; no weight tells, and memory grows with it.
LONGEST_CHUNK = 10_000


class Kept(NamedTuple):
    """What is kept of B streams between two blocks."""

    waiting: Tensor  # (B, p): samples from the start of the next frame on
    tail: Tensor  # (B, N, kernel - hop): what the last frames give to these
    weights: Tensor  # (B, filters, w): frames that wait for their masks; without masks (B, 1, w), 0 before the first
    frames: Tensor  # (B, dim, q): frames from the start of the next chunk on
    chunks: Tensor  # (B, N dim, chunk - chunk_hop): what the last chunks give to these
    net: tuple[Any, ...]  # of the RNNs across chunks, in the order of their running


class Path(nn.Module):
    """RNN along the last axis, projection, norm, residual: (B, C, rows, steps) to the same."""

    def __init__(self, dim: int, hidden: int, layers: int, rnn: str, norm: str, both_ways: bool) -> None:
        super().__init__()
        self.rnn = RNNS[rnn](dim, hidden, layers, batch_first=True, bidirectional=both_ways)
        self.out = Dense(hidden * (2 if both_ways else 1), dim)
        self.norm = NORMS[norm](dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + norm of the projection of the RNN over the last axis of x (B, C, rows, steps)."""
        return self.step(x)[0]

    def step(self, x: Tensor, past: Any = None) -> tuple[Tensor, Any]:
        """Return the same for the next steps x (B, C, rows, steps), and the RNN's state after them."""
        y, past = recur(self.rnn, rows_of(x), past)
        return added(x, self.out(y), self.norm), past


class DPRNN(SeparationModel):
    """Encoder, dual-path RNN over chunks of frames, one mask per output, decoder.

    `causal` runs the RNN across chunks forwards alone and needs the norm of every frame by itself; the RNN
    within a chunk stays bidirectional, so that the latency is one chunk.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "paper_16": {"kernel": 16, "chunk": 100},
        "gated": {
            "filters": 128, "kernel": 8, "dim": 128, "chunk": 126, "path": "gated", "norm": "none", "output": "direct",
        },
        "dptnet": {"path": "dptnet"},
        "small": {
            "kernel": 16, "hidden": 64, "chunk": 100, "repeats": 3, "input_norm": "std", "consistency": "uniform",
        },
        "tiny": {
            "filters": 24, "kernel": 8, "dim": 16, "hidden": 16, "chunk": 12, "repeats": 2,
            "input_norm": "std", "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        filters: int = 64,
        kernel: int = 2,
        stride: int = 0,
        padding: Padding = "end",
        activation: Activation = "relu",
        dim: int = 64,
        hidden: int = 128,
        chunk: int = 250,
        chunk_hop: int = 0,
        repeats: int = 6,
        layers: int = 1,
        rnn: Rnn = "lstm",
        path: Kind = "rnn",
        heads: int = 4,
        bidirectional: bool = True,
        norm: Norm = "gln",
        mask: RealMask = "sigmoid",
        output: Output = "mask",
        bottleneck: bool = True,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes: kernel and stride in samples (0: half), chunk and chunk_hop in frames (0: half).

        layers: of each RNN; bidirectional: the RNN across chunks; heads: of the attention of path dptnet. bottleneck: a
        layer from the basis to dim and one back. ConfigError if sizes do not fit.
        """
        super().__init__(hop=stride or kernel // 2, **common)
        _check(norm, mask, rnn, chunk, chunk_hop, self.causal)
        _check_path(path, output, filters, dim, heads, bottleneck, self.causal)
        self.chunk, self.chunk_hop, self.mask = chunk, chunk_hop or chunk // 2, mask
        self.direct, self.dim = output == "direct", dim
        basis = AveragedBasis if self.direct else LearnedBasis
        self.basis = basis(filters, kernel, stride, activation, padding)
        enter: list[nn.Module] = [Pointwise(filters, dim)] if bottleneck else []
        inlet = [] if self.direct else [NORMS[norm](filters), *enter]
        self.inlet = nn.Sequential(*inlet)
        across = bidirectional and not self.causal
        sizes = (dim, hidden, layers, rnn, norm)
        self.within = nn.ModuleList(_path(path, heads, *sizes, True) for _ in range(repeats))
        self.across = nn.ModuleList(_path(path, heads, *sizes, across) for _ in range(repeats))
        self.spread = nn.Sequential(nn.PReLU(), nn.Conv2d(dim, self.n_src * dim, 1))
        if not self.direct:
            self.value, self.gate = Pointwise(dim, dim), Pointwise(dim, dim)
            self.head: nn.Module = Pointwise(dim, filters, bias=False) if bottleneck else nn.Identity()
        self.learn_shares(self.n_src * dim)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T), masks (B, N, filters, L) and weights (B, filters, L), if any."""
        weights = self.basis.analyse(mix)  # (B, filters, L)
        x = self._paths(self._cut(self.inlet(weights)), at_once)
        x = self._join(x.unflatten(1, (self.n_src, -1)).flatten(0, 1), weights.shape[-1])  # (B N, dim, L)
        core = x.unflatten(0, (-1, self.n_src)).flatten(1, 2).mT  # (B, L, N dim)
        shares = self.shares_of(core)
        if self.direct:
            return Parts(self.basis.synthesise(x.unflatten(0, (-1, self.n_src)), mix.shape[-1]), weights=shares)
        found = self._masks(x)
        return Parts(self.basis.synthesise(found * weights[:, None], mix.shape[-1]), found, weights, shares)

    def _paths(self, x: Tensor, run: Run) -> Tensor:
        """Return (B, N dim, chunks, chunk) from chunks (B, dim, chunks, chunk)."""
        for within, across in zip(self.within, self.across, strict=True):
            x = within(x)
            x = run(across, x.mT).mT
        return self.spread(x)

    def _masks(self, x: Tensor) -> Tensor:
        """Return the masks (B, N, filters, L) from x (B N, dim, L)."""
        scores = self.head(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x)))
        return masks_of(scores.unflatten(0, (-1, self.n_src)), self.mask)  # (B, N, filters, L)

    def _cut(self, x: Tensor) -> Tensor:
        """Return the chunks (B, C, chunks, chunk) of x (B, C, L), with a chunk of zeros before and after it."""
        return F.pad(x, (self.chunk, self.chunk)).unfold(-1, self.chunk, self.chunk_hop)

    def _join(self, x: Tensor, frames: int) -> Tensor:
        """Return the sum (B, C, frames) of overlapping chunks (B, C, chunks, chunk)."""
        columns = x.float().mT.flatten(1, 2)  # (B, C chunk, chunks)
        return F.fold(columns, (frames, 1), (self.chunk, 1), 1, (self.chunk, 0), (self.chunk_hop, 1))[..., 0]

    def hindrances(self) -> list[str]:
        """Return what keeps the model from taking blocks, each with what to set."""
        return super().hindrances() + self.basis.hindrances()

    @property
    def ahead(self) -> int:
        """The chunk of zeros before the first frame is answered like all others."""
        return self.chunk * self.hop

    @property
    def live_stride(self) -> int:
        """One step from chunk to chunk."""
        return self.chunk_hop * self.hop

    def open(self, batch: int) -> Kept:
        """Return what is kept before the first block of `batch` streams."""
        rows, dim, overlap = (
            1 if self.direct else self.basis.encoder.out_channels,
            self.dim,
            self.chunk - self.chunk_hop,
        )
        return Kept(
            waiting=silence(self, batch, 0),
            tail=silence(self, batch, self.n_src, self.basis.reach - self.hop),
            weights=silence(self, batch, rows, self.chunk),
            frames=silence(self, batch, dim, self.chunk),
            chunks=silence(self, batch, self.n_src * dim, overlap),
            net=(),
        )

    def advance(self, block: Tensor, kept: Kept) -> tuple[Tensor, Kept]:
        """Return the estimates (B, N, k) that a block (B, t) settles, k >= 0, and what is kept then."""
        weights, waiting = self.basis.hear(block, kept.waiting)
        x = self.inlet(weights) if weights.shape[-1] else kept.frames[..., :0]
        if self.direct:
            # Frames before the signal are zeros that masks keep so; without masks they have to be told apart.
            weights = torch.ones_like(weights[:, :1])
        return self._answer(x, kept._replace(waiting=waiting, weights=torch.cat([kept.weights, weights], -1)))

    def _answer(self, x: Tensor, kept: Kept) -> tuple[Tensor, Kept]:
        """Return the estimates (B, N, k) that the next frames x (B, dim, L) settle, and what is kept then."""
        covered, frames = framing.cut(kept.frames, x, self.chunk, self.chunk_hop)
        if not covered.shape[-1]:
            return kept.tail[..., :0], kept._replace(frames=frames)
        walk = Walk(kept.net)
        x = self._paths(covered.unfold(-1, self.chunk, self.chunk_hop), walk)
        count = x.shape[2] * self.chunk_hop
        x, chunks = framing.settle(framing.added(x.float(), self.chunk_hop), kept.chunks, count)
        # At the end more frames are settled than were heard.
        weights, later = kept.weights[..., :count], kept.weights[..., count:]
        x = x[..., : weights.shape[-1]].unflatten(1, (self.n_src, -1)).flatten(0, 1)  # (B N, dim, L)
        shares = x.unflatten(0, (-1, self.n_src)) if self.direct else self._masks(x)
        est, tail = self.basis.speak(shares * weights[:, None], kept.tail)
        return est, Kept(kept.waiting, tail, later, frames, chunks, walk.kept)

    def close(self, kept: Kept, heard: int, rest: int) -> Tensor:
        """Return the last `rest` estimates (B, N, rest) of a signal of `heard` samples."""
        est, kept = self.advance(silence(self, len(kept.tail), self.basis.missing(heard)), kept)
        if kept.weights.shape[-1]:
            last, kept = self._answer(silence(self, *kept.frames.shape[:2], self.chunk), kept)
            est = torch.cat([est, last], -1)
        return self.basis.ended(est, kept.tail, rest)

    @property
    def latency_samples(self) -> int:
        """The last chunk that holds a frame reaches chunk - 1 frames further, and the last of them one kernel."""
        return (self.chunk - 1) * self.hop + self.basis.kernel


def _path(path: str, heads: int, dim: int, hidden: int, layers: int, rnn: str, norm: str, both: bool) -> nn.Module:
    if path == "rnn":
        return Path(dim, hidden, layers, rnn, norm, both)

    def make(width: int) -> nn.Module:
        made: nn.Module = RNNS[rnn](width, hidden, layers, batch_first=True, bidirectional=both)
        return made

    if path == "gated":
        return GatedPath(dim, hidden, make, NORMS[norm](dim), both)
    if path == "dptnet_rows":
        return RowAttentionPath(dim, hidden, make, NORMS[norm], both, heads)
    return AttentionPath(dim, hidden, make, NORMS[norm](dim), both, heads)


def _check_path(
    path: str, output: str, filters: int, dim: int, heads: int, bottleneck: bool, causal: bool
) -> None:  # fmt: skip
    paths = ("rnn", "gated", "dptnet", "dptnet_rows")
    for key, found, known in (("path", path, paths), ("output", output, ("mask", "direct"))):
        if found not in known:
            raise ConfigError(f"model.{key}: {choices(key, found, known)}")
    for what, so in (("output: direct", output == "direct"), ("bottleneck: false", not bottleneck)):
        if so and dim != filters:
            raise ConfigError(f"model.dim: found {dim}; expected model.filters = {filters} for model.{what}")
    attends = path in ("dptnet", "dptnet_rows")
    if attends and (heads < 1 or dim % heads):
        raise ConfigError(f"model.heads: found {heads}; expected a divisor of model.dim = {dim}")
    if attends and causal:
        reject_causal(f"model.path '{path}', whose attention reads the whole input; set model.path: rnn or gated")


def _check(norm: str, mask: str, rnn: str, chunk: int, chunk_hop: int, causal: bool) -> None:
    for key, found, known in (("norm", norm, NORMS), ("mask", mask, masks.REAL), ("rnn", rnn, RNNS)):
        if found not in known:
            raise ConfigError(f"model.{key}: {choices(key, found, known)}")
    if not 2 <= chunk <= LONGEST_CHUNK:
        raise ConfigError(f"model.chunk: found {chunk}; expected 2 to {LONGEST_CHUNK} frames")
    if not 0 <= chunk_hop <= chunk:
        raise ConfigError(f"model.chunk_hop: found {chunk_hop}; expected at most the chunk, {chunk} frames")
    if causal and norm == "gln":
        reject_causal("model.norm 'gln', which reads the whole input; set model.norm: channel")
