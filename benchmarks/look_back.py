"""Make of a `conformer_mask` one that never hears ahead, from which a model for live use can be trained.

    python benchmarks/look_back.py default past.safetensors [--frames 250]
    usep train --profile live --init-from past.safetensors

Filters over frames keep what they do to this frame and those before: their second half, over frames to come, is left
out, and as many zeros stand for frames further back. Attention looks back at --frames. The level of the whole recording
becomes that of the last seconds. Nothing else changes: what it does then is worse than what it did, and a better start
than none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from remade import save
from torch import Tensor

from usepcli.weights import cards, reach, store


def turned(weight: Tensor) -> Tensor:
    """Return filters (C, 1, K), K odd, over this frame and K - 1 before, of those over (K - 1) / 2 on either side."""
    half = weight.shape[-1] // 2
    return torch.cat([torch.zeros_like(weight[..., :half]), weight[..., : half + 1]], -1)


def main() -> None:
    """Read a model, write the one that looks back alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run, a file or a name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=250)
    given = parser.parse_args()
    path = reach.find_model(given.model)
    card, _ = cards.read_card(path)
    old = card.model
    if old["name"] != "conformer_mask" or old.get("causal"):
        raise SystemExit(f"{path}: expected a conformer_mask that hears ahead")
    if old["input_norm"] != "std" or old["consistency"] not in ("none", "uniform"):
        raise SystemExit(f"{path}: expected input_norm std and consistency uniform or none")
    card.model = old | {"causal": True, "input_norm": "none", "levelled": True, "look_back": given.frames}
    state = {
        key: turned(value) if key.endswith("conv.depth.weight") else value
        for key, value in store.read_weights(path).items()
    }
    save(given.out, state, card)


if __name__ == "__main__":
    main()
