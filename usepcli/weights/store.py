"""Released weights: safetensors, with the card, the model's settings and a sha256 of the weights in the metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from usepcli import registry
from usepcli.errors import BadInput
from usepcli.files import write_bytes
from usepcli.models.ensemble import Ensemble
from usepcli.models.queried import Model, QueriedModel
from usepcli.models.separator import SeparationModel
from usepcli.weights import ensembles, fitting, onnx_files, packing, readers
from usepcli.weights.cards import Card, read_card


def _digest(state: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a model file; BadInput if they do not match the sha256 in the file."""
    _, expected = read_card(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as fault:
        raise BadInput(f"{path}: not a readable model file ({fault}); fetch it again") from fault
    if _digest(state) != expected:
        raise BadInput(f"{path}: weights do not match their sha256; the file is damaged, fetch it again")
    return packing.unpacked(state, str(path))


def load_model(ref: str | Path) -> tuple[SeparationModel, Card]:
    """Return a model with outputs of its own, in eval mode on the CPU, and its card; `ref` as in ensembles.find.

    BadInput for one that separates by query: see load_any.
    """
    model, card = load_any(ref)
    if isinstance(model, QueriedModel):
        raise BadInput(
            f"{ref}: this model separates what it is asked for; expected one with outputs of its own. In Python: "
            "usepcli.Separator.load(...).ask(['a dog barks', 'rain'])"
        )
    return model, card


def load_any(ref: str | Path) -> tuple[Model, Card]:
    """Return a model of either kind in eval mode on the CPU, and its card; `ref` as in ensembles.find."""
    meant = ensembles.find(ref)
    loaded = [_loaded(member.path, member.card) for member in meant.members]
    if len(loaded) == 1:
        return loaded[0], meant.card
    try:
        named = [one.card.sources if isinstance(one.card.sources, tuple) else () for one in meant.members]
        return Ensemble(cast(list[SeparationModel], loaded), named).eval(), meant.card
    except BadInput as fault:
        raise BadInput(f"{ref}: {fault}") from fault


def _loaded(path: Path, card: Card) -> Model:
    if card.objective in registry.PREPARING:
        raise BadInput(
            f"{path}: objective {card.objective} has trained no separator, what it learned is for the training of one; "
            "name it under model.prompts of that"
        )
    state = readers.graph(path) if path.suffix == onnx_files.SUFFIX else read_weights(path)
    model = fitting.model(card.model, state, str(path))
    for what, said, is_ in (("Hz", card.sample_rate, model.sample_rate), ("outputs", card.n_src, model.n_src)):
        if said not in (0, is_):
            raise BadInput(f"{path}: the card says {said} {what}, the model in the same file has {is_}")
    return model


def save_model(path: Path, state: Mapping[str, Tensor], card: Card, dtype: str = "float32") -> None:
    """Write weights and card; `dtype` float16 halves the file, int8 quarters it (loading converts back)."""
    if dtype == "int8":
        held = packing.packed(state)
    else:
        kind = {"float32": torch.float32, "float16": torch.float16}[dtype]
        held = {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}
    held = {k: v.detach().cpu().contiguous() for k, v in held.items()}
    write_bytes(path, to_safetensors(held, {"usep": card.to_json(), "sha256": _digest(held)}))
