"""Make of a model with masks one of twice the sampling rate, which does in the lower half of the band what it did.

    python benchmarks/widen.py default wide.safetensors
    usep train --profile two_talkers --init-from wide.safetensors

For `conformer_mask` and `upit` of one stage, with real masks on log magnitudes. Frames of twice as many samples
have the same bins up to the old band's end. There the magnitudes of the same sound are twice as large: log |X|
moves by log 2, which is taken out of the bias of the first layer. The upper half is not heard at first, its columns
are zero; its masks begin as the mean of those of the upper half until now.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

import torch
from remade import save
from torch import Tensor

from usepcli.weights import cards, reach, store

INLETS = {"conformer_mask": r"inlet\.0\.(weight)", "upit": r"nets\.0\.lstm\.(weight_ih)_l0(_reverse)?"}
HEADS = {"conformer_mask": "head", "upit": "heads.0"}


def widened(state: dict[str, Tensor], name: str, bins: int, n_src: int) -> dict[str, Tensor]:
    """Return the weights for twice the rate; bins: those of the narrow spectrum."""
    wide, upper = dict(state), bins - 1
    for key in filter(re.compile(INLETS[name]).fullmatch, state):
        weight, bias = state[key], key.replace("weight", "bias")
        wide[key] = torch.cat([weight, weight.new_zeros(len(weight), upper)], 1)
        wide[bias] = state[bias] - math.log(2) * weight.sum(1)
    for key in (f"{HEADS[name]}.{part}" for part in ("weight", "bias")):
        rows = state[key].unflatten(0, (n_src, bins))
        mean = rows[:, bins // 2 :].mean(1, keepdim=True)
        wide[key] = torch.cat([rows, mean.expand(-1, upper, *mean.shape[2:])], 1).flatten(0, 1)
    return wide


def main() -> None:
    """Read a model, write the wider one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run, a file or a name")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    path = reach.find_model(given.model)
    card, _ = cards.read_card(path)
    old = card.model
    real = old.get("mask") in ("sigmoid", "softmax", "relu")
    if old["name"] not in INLETS or old.get("stages", 1) != 1 or old.get("features") != "log_magnitude" or not real:
        raise SystemExit(f"{path}: expected conformer_mask or upit of one stage, real masks on log magnitudes")
    card.model = old | {key: 2 * old[key] for key in ("sample_rate", "n_fft", "win", "hop")}
    card.sample_rate *= 2
    state = widened(store.read_weights(path), old["name"], old["n_fft"] // 2 + 1, old["n_src"])
    save(given.out, state, card)


if __name__ == "__main__":
    main()
