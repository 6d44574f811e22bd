"""Make of a `conformer_mask` one of more layers, which at first does exactly what it did.

    python benchmarks/deepen.py runs/two_talkers_4s deep.safetensors --layers 10
    usep train --profile two_talkers_deep --init-from deep.safetensors

A new layer adds nothing yet: the last projection of each of its branches is zero, so that only its closing norm is
left. A norm of what has been normed changes nothing, where gain and offset come once: the layer before is left without,
the new one has its. New layers stand evenly among the old ones.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from remade import save
from torch import Tensor

from usepcli.weights import build, cards, reach, store

LAST = re.compile(r"(first\.4|second\.4|attention\.out|conv\.point)\.(weight|bias)")
KEY = re.compile(r"layers\.(\d+)\.(.+)")


def places(old: int, new: int) -> list[int | None]:
    """Return for each of `new` layers which of the `old` ones it is; None for one that begins anew."""
    at = {round(k * (new - 1) / max(old - 1, 1)): k for k in range(old)}  # the first and the last stay where they are
    return [at.get(k) for k in range(new)]


def deepened(old: dict[str, Tensor], fresh: dict[str, Tensor], where: list[int | None]) -> dict[str, Tensor]:
    """Return weights of the deeper model, of which `fresh` is one at random."""
    state = {}
    for key, value in fresh.items():
        found = KEY.fullmatch(key)
        if not found:
            state[key] = old[key]
        elif (source := where[int(found[1])]) is not None:
            state[key] = old[f"layers.{source}.{found[2]}"]
        else:
            state[key] = torch.zeros_like(value) if LAST.fullmatch(found[2]) else value
    for k, source in enumerate(where):
        if source is None:
            for part, plain in (("weight", 1.0), ("bias", 0.0)):
                before, here = (f"layers.{at}.last.{part}" for at in (k - 1, k))
                state[here], state[before] = state[before], torch.full_like(state[before], plain)
    return state


def main() -> None:
    """Read a model, write the deeper one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run, a file or a name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, required=True)
    given = parser.parse_args()
    path = reach.find_model(given.model)
    card, _ = cards.read_card(path)
    count = card.model.get("layers")
    if card.model["name"] != "conformer_mask" or card.model["conv"] != "full" or given.layers <= count:
        raise SystemExit(f"{path}: expected a conformer_mask with conv full and fewer layers than {given.layers}")
    card.model = card.model | {"layers": given.layers}
    torch.manual_seed(0)
    state = deepened(store.read_weights(path), build.model(card.model).state_dict(), places(count, given.layers))
    save(given.out, state, card)


if __name__ == "__main__":
    main()
