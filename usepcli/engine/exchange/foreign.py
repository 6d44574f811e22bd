"""Checkpoints of other toolkits for architectures that usep has, made into model files of usep.

A file is read as tensors and plain values (weights_only=True) or not at all; what it says is compared with its
tensors before a model is built, and every tensor must find its place.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from usepcli import files
from usepcli.engine.exchange import foreign_asteroid, foreign_torchaudio
from usepcli.engine.exchange.foreign_parts import Found, Stated, plain
from usepcli.errors import BadInput, InputNotFound, OutputError, UsageError, choices
from usepcli.weights import archives, cards

if TYPE_CHECKING:
    from torch import Tensor

    from usepcli.models.separator import SeparationModel

KINDS = ("asteroid", "torchaudio")
KNOWN = "known are asteroid's ConvTasNet and DPRNNTasNet and torchaudio's ConvTasNet"
UNSTATED = "unstated"


@dataclass(frozen=True)
class Words:
    """What the card of an imported model says where the file says nothing."""

    name: str = ""
    licence: str = ""
    training_data: str = ""


@dataclass
class Imported:
    """A written model file, its model, its card and what a user should know of the conversion."""

    path: Path
    model: SeparationModel
    card: cards.Card
    notes: list[str]


def import_checkpoint(
    checkpoint: Path, out: Path, *, kind: str = "", licence: str = "", training_data: str = "", name: str = "",
    sample_rate: int = 0, mask: str = "", blocks: int = 0, fit_level: bool = False, overwrite: bool = False,
) -> Imported:  # fmt: skip
    """Do `import_model` with the options of `usep import`."""
    stated, words = Stated(sample_rate, mask, blocks), Words(name, licence, training_data)
    return import_model(checkpoint, out, kind, stated, words, overwrite, fit_level)


def import_model(
    source: Path, out: Path, kind: str = "", stated: Stated | None = None, words: Words | None = None,
    overwrite: bool = False, fit_level: bool = False,
) -> Imported:  # fmt: skip
    """Convert a checkpoint file; BadInput if it is none of the known kinds, UsageError if options have to say more.

    fit_level puts one gain into the decoder that brings the sum of the outputs to the level of the input.
    """
    stated, words = stated or Stated(), words or Words()
    if kind and kind not in KINDS:
        raise UsageError(choices("kind of checkpoint", kind, KINDS))
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: expected a name that ends in .safetensors")
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: exists already; choose another name with -o, or --overwrite")
    found = read(source, kind, stated)
    from usepcli.engine.exchange import foreign_level
    from usepcli.models.separator import SeparationModel
    from usepcli.weights import fitting, store

    model = fitting.model(found.model, found.state, str(source))
    assert isinstance(model, SeparationModel), "no foreign layout separates by query"
    card = _card(found, model, source, words, out.stem)
    level = foreign_level.measure(model)
    if fit_level:
        fitting.load_into(model, foreign_level.fit(model.state_dict(), level, str(source)), str(source))
        card.origin += f", outputs times {level.gain:.6g}"
    elif level.note:
        found.notes.append(level.note)
    store.save_model(out, model.state_dict(), card)
    if not found.licence and not words.licence:
        found.notes.append("the file states no licence; say it with --licence, the card now says 'unstated'")
    return Imported(out, model, card, found.notes)


def read(source: Path, kind: str = "", stated: Stated | None = None) -> Found:
    """Return settings, weights and history of a checkpoint file in our names."""
    raw, where = load_plain(source), str(source)
    stated = stated or Stated()
    if foreign_asteroid.knows(raw):
        found_kind, state = "asteroid", _tensors(raw["state_dict"])
    else:
        state = _state_of(raw)
        found_kind = "torchaudio" if foreign_torchaudio.knows(state) else ""
    if not found_kind:
        raise BadInput(f"{where}: {_seen(raw, state)}; {KNOWN}")
    if kind not in ("", found_kind):
        raise BadInput(f"{where}: a checkpoint of {found_kind}, not of {kind}; leave --kind out")
    if not state:
        raise BadInput(f"{where}: state_dict holds no tensors by name")
    if odd := [name for name, tensor in state.items() if not _plain_numbers(tensor)]:
        raise BadInput(f"{where}: tensor '{plain(odd[0])}' holds no plain array of real numbers, as all have to")
    if broken := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise BadInput(f"{where}: {len(broken)} tensors hold NaN or infinity, the first: {plain(broken[0])}")
    if found_kind == "asteroid":
        return foreign_asteroid.read({**raw, "state_dict": state}, stated, where)
    return foreign_torchaudio.read(state, stated, where)


def load_plain(source: Path) -> dict[str, Any]:
    """Return the dictionary in a torch or safetensors file; BadInput if it holds more than tensors and plain values."""
    if not source.exists():
        raise InputNotFound(f"{source}: no such checkpoint file")
    if source.is_dir():
        raise BadInput(f"{source}: a folder; expected one checkpoint file; {KNOWN}")
    if source.suffix == ".safetensors":
        return dict(_safetensors(source))
    import torch
    from torch.torch_version import TorchVersion

    # asteroid writes torch.__version__, a str of its own class; nothing else is let in.
    with open(source, "rb") as file, torch.serialization.safe_globals([TorchVersion]), warnings.catch_warnings():
        archives.check(file, str(source))
        warnings.simplefilter("ignore")  # of how torch reads a file that a user may not even have made
        try:
            raw = torch.load(file, map_location="cpu", weights_only=True)
        except (Exception, MemoryError) as fault:  # a damaged file raises almost anything, OSError too
            raise BadInput(f"{source}: {cards.what_instead(source) or _why(str(fault))}") from fault
    if not isinstance(raw, Mapping):
        raise BadInput(f"{source}: holds a {type(raw).__name__}; expected a dictionary; {KNOWN}")
    return dict(raw)


def _safetensors(source: Path) -> dict[str, Tensor]:
    try:
        with safe_open(source, framework="pt") as file:
            if "usep" in (file.metadata() or {}):
                raise BadInput(f"{source}: a model file of usep already; use it as it is with --model")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as fault:
        raise BadInput(f"{source}: not a readable safetensors file ({cards.what_instead(source) or fault})") from fault


def _why(fault: str) -> str:
    if found := re.search(r"GLOBAL ([\w.]+)", fault):
        return (
            f"holds the Python object {found[1]}, and usep reads tensors and plain values alone;"
            " save its state dict with the toolkit that made it"
        )
    return f"not a readable torch file ({plain(fault)[:120]})"


def _tensors(state: object) -> dict[str, Tensor]:
    """Return a mapping of names to tensors without the prefixes of wrappers; empty for anything else."""
    from torch import Tensor

    if not isinstance(state, Mapping) or not state:
        return {}
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        return {}
    out = dict(state)
    for prefix in ("module.", "model.", "module."):
        if all(name.startswith(prefix) for name in out):
            out = {name.removeprefix(prefix): tensor for name, tensor in out.items()}
    return out


def _plain_numbers(tensor: Tensor) -> bool:
    """Return whether a tensor is a dense array of real numbers in memory, every element of it in the file."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _state_of(raw: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict that a file is, or holds under a usual key."""
    for held in (raw, *(raw.get(key) for key in ("state_dict", "model_state_dict", "model"))):
        if state := _tensors(held):
            return state
    return {}


def _seen(raw: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Say what was found in a file of no known kind."""
    if any(re.match(r"(masknet\.)?dual_mdl\.", name) for name in state):
        return "weights of SpeechBrain's dual-path transformer (SepFormer), an architecture that usep does not have"
    if "pytorch-lightning_version" in raw:
        return "a training state of Lightning; save the model itself (asteroid: torch.save(model.serialize(), FILE))"
    keys = sorted(map(plain, state or raw))[:4]
    what = f"{len(state)} tensors" if state else f"a dictionary of {len(raw)} keys"
    return f"{what} of an unknown kind ({', '.join(keys) or 'empty'})"


def _card(found: Found, model: SeparationModel, source: Path, words: Words, name: str) -> cards.Card:
    from usepcli.weights import build

    for option, said, here in (
        ("--licence", words.licence, found.licence),
        ("--training-data", words.training_data, found.training_data),
    ):
        if said and here:
            raise UsageError(f"{source}: the file states '{here}' itself; leave {option} out")
    return cards.Card(
        name=words.name or name,
        about=f"imported from a checkpoint of {found.origin}",
        model=build.config_of(model),
        sample_rate=model.sample_rate,
        n_src=model.n_src,
        cost=build.cost_of(model),
        training_data=found.training_data or words.training_data or UNSTATED,
        licence=found.licence or words.licence or UNSTATED,
        credits=found.credits,
        scores=found.scores,
        versions=found.versions,
        origin=f"{plain(source.name)}, {found.origin}, sha256 {files.sha256(source)}",
    )
