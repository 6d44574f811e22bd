"""Filters and attention over frames, usep's beside the same from torch's own layers, forwards and backwards.

    OMP_NUM_THREADS=1 python benchmarks/pieces.py [--frames 188] [--items 32]

Processor time of one thread, in turns, the least of several: depthwise filters over (items, frames, channels), and
attention whose scores know the distance (four heads of 32), in float32 and in bfloat16.
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


def works(items: int, frames: int) -> Iterator[turns.Work]:
    """Yield filters of three lengths, and attention."""
    x = torch.randn(items, frames, CHANNELS)
    shape = f"{items} x {frames} x {CHANNELS}"
    for told, kind in KINDS.items():
        for taps in (17, 31, 65):
            yield turns.Work("pieces", f"filter of {taps} taps, {shape}, {told}", filters(x, taps, kind), turns=7)
        yield turns.Work("pieces", f"attention, {shape}, {told}", attention(x, kind), turns=7)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--frames", type=int, default=188, help="3 s at a hop of 16 ms")
    asked = parser.parse_args()
    device.keep_heap()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    turns.table(works(asked.items, asked.frames))
    print(turns.machine())


if __name__ == "__main__":
    main()
