"""Filters, attention and LSTMs over frames, usep's beside the same from torch's own layers, forwards and backwards.

    OMP_NUM_THREADS=1 python benchmarks/pieces.py [--frames 188] [--items 32]

Processor time of one thread, in turns, the least of several: depthwise filters over (items, frames, channels),
attention whose scores know the distance (four heads of 32), in float32 and in bfloat16, and two layers of LSTMs as
`train.precision: bf16` trains them beside torch's in float32, which are all that it has on a processor.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
import turns
from torch import Tensor

from usepcli import device
from usepcli.models.attention import RelativeAttention, RelativeKeys
from usepcli.models.depthwise import planes
from usepcli.models.recurrent import Lstm

CHANNELS, HEADS = 128, 4
KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def both_ways(made: Tensor) -> None:
    """Go back through what was made."""
    made.float().sum().backward()


def filters(x: Tensor, taps: int, kind: torch.dtype) -> dict[str, Callable[[], Callable[[], None]]]:
    """Return usep's filter and torch's, each with its gradients."""
    x = x.to(kind).requires_grad_()
    weight = torch.randn(CHANNELS, taps).to(kind).requires_grad_()
    bias = torch.randn(CHANNELS).to(kind).requires_grad_()
    half = taps // 2
    return {
        turns.OURS: lambda: lambda: both_ways(planes(x, weight, bias, half, half)),
        "torch": lambda: lambda: both_ways(F.conv1d(x.mT, weight[:, None], bias, 1, half, 1, CHANNELS).mT),
    }


class Plain(RelativeAttention):
    """The same by torch's own attention with a bias."""

    def _told(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def attention(x: Tensor, kind: torch.dtype) -> dict[str, Callable[[], Callable[[], None]]]:
    """Return usep's attention and torch's."""
    x = x.detach().requires_grad_()
    keys = RelativeKeys(250, CHANNELS // HEADS)

    def step(layer: torch.nn.Module) -> Callable[[], None]:
        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
                made = layer(x, keys(x.shape[1]))
            both_ways(made)

        return run

    return {
        turns.OURS: lambda: step(RelativeAttention(CHANNELS, HEADS)), "torch": lambda: step(Plain(CHANNELS, HEADS)),
    }  # fmt: skip


def lstm(x: Tensor, cells: int) -> dict[str, Callable[[], Callable[[], None]]]:
    """Return usep's LSTM, trained in bfloat16, and torch's."""
    x = x.detach().requires_grad_()
    layer = Lstm(x.shape[-1], cells, 2, both_ways=False)

    def coarse() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            made = layer(x)
        both_ways(made)

    return {turns.OURS: lambda: coarse, "torch": lambda: lambda: both_ways(layer.lstm(x)[0])}


def works(items: int = 32, frames: int = 188) -> Iterator[turns.Work]:
    """Yield filters of three lengths, attention, and LSTMs of three sizes."""
    x = torch.randn(items, frames, CHANNELS)
    shape = f"{items} x {frames} x {CHANNELS}"
    for told, kind in KINDS.items():
        for taps in (17, 31, 65):
            yield turns.Work("pieces", f"filter of {taps} taps, {shape}, {told}", filters(x, taps, kind), turns=7)
        yield turns.Work("pieces", f"attention, {shape}, {told}", attention(x, kind), turns=7)
    for cells in (128, 256, 320):
        text = f"2 LSTMs of {cells} cells, {shape}, bfloat16 beside float32"
        yield turns.Work("pieces", text, lstm(x, cells), turns=5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--frames", type=int, default=188, help="3 s at a hop of 16 ms")
    parser.add_argument("--only", default="", help="works whose name holds this")
    asked = parser.parse_args()
    device.keep_heap()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    turns.table(work for work in works(asked.items, asked.frames) if asked.only in work.name)
    print(turns.machine())


if __name__ == "__main__":
    main()
