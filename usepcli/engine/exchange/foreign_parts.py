"""What the readers of other toolkits' checkpoints share: facts, settings by table, tensors by pattern."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.errors import BadInput, UsageError

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 500  # letters of a text that is taken over from a file


@dataclass(frozen=True)
class Stated:
    """What a user says of a checkpoint that does not say it itself; zero and empty: not said."""

    sample_rate: int = 0
    mask: str = ""
    blocks: int = 0
    text: str = ""  # folder of what reads words


@dataclass
class Found:
    """What a checkpoint holds, in our names: settings, weights, and what it says of itself."""

    origin: str
    model: dict[str, Any]
    state: dict[str, Tensor]
    training_data: str = ""
    licence: str = ""
    credits: str = ""
    scores: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    # Licences of the maker's code and of the weights; that of the training data is `licence`.
    code: str = ""
    weights: str = ""
    # Tensors that a common factor of all outputs goes into, () where none is one.
    gain: tuple[str, ...] = ("basis.decoder.weight",)
    # What reads words, where the checkpoint holds it: it comes to stand in a folder beside the model.
    tower: TextTower | None = None


@dataclass
class TextTower:
    """The text tower of a CLAP as transformers names its parts, its settings, and the folder of its tokenizer."""

    state: dict[str, Tensor]
    config: dict[str, Any]
    tokenizer: Path


def plain(value: object) -> str:
    """Return a text from a file on one line, without control characters, and of bounded length."""
    text = " ".join(str(value).split())
    return "".join(letter for letter in text if letter.isprintable())[:LONGEST]


def renamed(
    state: Mapping[str, Tensor], rules: Sequence[tuple[str, str | None]], where: str, dropped: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return float32 tensors under the names that the first matching rule gives, without those that `dropped` matches.

    BadInput for names without a rule, and for two tensors of one place that differ.
    """
    import torch

    out: dict[str, Tensor] = {}
    lost = []
    for name, tensor in state.items():
        if any(re.fullmatch(pattern, name) for pattern in dropped):
            continue
        found = next((m.expand(to) for pattern, to in rules if to and (m := re.fullmatch(pattern, name))), "")
        value = tensor.detach().float()
        if not found:
            lost.append(name)
        elif found in out and not torch.equal(out[found], value):
            raise BadInput(f"{where}: tensor '{plain(name)}' is stored twice, and the two differ")
        else:
            out[found] = value
    if lost:
        raise BadInput(
            f"{where}: {len(lost)} tensors belong to no part of the architecture that the file names: {some(lost)}"
        )
    return out


def some(names: Sequence[str], most: int = 5) -> str:
    """Return names for a message: the first few, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(plain, names[:most])) + more


def joined(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Join the residual and the skip convolution of every Conv-TasNet block, and drop the depthwise axis of one.

    A last block without residual convolution gets zeros, since nothing reads its residual.
    """
    import torch

    out = {k: v for k, v in state.items() if not re.fullmatch(r"blocks\.\d+\.(res|skip)\..*", k)}
    blocks = count(state, "blocks")
    for block in range(blocks):
        at = f"blocks.{block}"
        depthwise = out.get(f"{at}.body.3.weight")
        if depthwise is None or depthwise.dim() != 3 or depthwise.shape[1] != 1:
            raise BadInput(f"{where}: block {block} of {blocks} has no depthwise convolution")
        out[f"{at}.body.3.weight"] = depthwise[:, 0]
        for part in ("weight", "bias"):
            residual, skip = state.get(f"{at}.res.{part}"), state.get(f"{at}.skip.{part}")
            if residual is None and skip is not None and block == blocks - 1:
                residual = torch.zeros_like(skip)
            if residual is None:
                raise BadInput(f"{where}: block {block} of {blocks} has no residual convolution")
            out[f"{at}.out.{part}"] = residual if skip is None else torch.cat([residual, skip])
    return out


def count(state: Mapping[str, Tensor], part: str) -> int:
    """Return how many numbered modules `part.0`, `part.1`, ... the names of a state dict speak of."""
    return len({m[1] for name in state if (m := re.match(rf"{re.escape(part)}\.(\d+)\.", name))})


def numbered(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
    """Return the tensors whose names do not end in @NUMBER, and the others by what stands before it, in their order."""
    rest = {name: tensor for name, tensor in state.items() if "@" not in name}
    parts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in state.items():
        if "@" in name:
            at, number = name.split("@")
            parts.setdefault(at, {})[int(number)] = tensor
    return rest, {at: [held[number] for number in sorted(held)] for at, held in parts.items()}


def single_tap(state: dict[str, Tensor], patterns: Sequence[str]) -> dict[str, Tensor]:
    """Return the state with convolutions of one tap as the matrices that linear layers have."""
    return {
        name: tensor.flatten(1) if any(re.fullmatch(pattern, name) for pattern in patterns) else tensor
        for name, tensor in state.items()
    }


def size(state: Mapping[str, Tensor], name: str, where: str, rank: int = 0) -> tuple[int, ...]:
    """Return the shape of a tensor that settings are read from; BadInput if it is not there or of another rank."""
    if name not in state:
        raise BadInput(f"{where}: tensor '{name}' is missing; with it the settings are not known")
    if rank and state[name].dim() != rank:
        raise BadInput(f"{where}: tensor '{name}' has the shape {tuple(state[name].shape)}; expected {rank} axes")
    return tuple(state[name].shape)


def whole(where: str, key: str, value: object, least: int = 0, most: int = 1_000_000) -> int:
    """Return a setting as int; BadInput unless it is a whole number from `least` to `most`."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not least <= number <= most or number != int(number):
        raise BadInput(f"{where}: {key} is {plain(value)!r}; expected a whole number from {least} to {most}")
    return int(number)


def one_of(where: str, key: str, value: object, known: Mapping[str, str]) -> str:
    """Return our name of a setting; BadInput names those that have one."""
    if not isinstance(value, str) or value not in known:
        raise BadInput(f"{where}: {key} is {plain(value)!r}, which usep does not have; it has {', '.join(known)}")
    return known[value]


def rate_of(found: object, stated: Stated, where: str) -> int:
    """Return the sample rate that a file states or the user; UsageError for neither, or two."""
    if found is None and not stated.sample_rate:
        raise UsageError(f"{where}: does not state its sample rate; say it with --sample-rate, in Hz")
    rate = stated.sample_rate if found is None else whole(where, "sample_rate", found, 1)
    if stated.sample_rate not in (0, rate):
        raise UsageError(f"{where}: states {rate} Hz, and --sample-rate {stated.sample_rate}; leave the option out")
    return rate
