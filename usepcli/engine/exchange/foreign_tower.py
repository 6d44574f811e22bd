"""The text tower of a CLAP that a checkpoint by words learned with: taken out of it, or found in a folder.

A user gives a folder. One with a tokenizer alone, RoBERTa's, is completed by the tower that the checkpoint holds: both
come to stand in a folder of Hugging Face's layout beside the model, MODEL_text, which its conditioner opens by path.
One with a whole CLAP, or with the text tower of one, is used where it lies, if it is the one that the network learned
with: vectors of another would be noise to it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli import files
from usepcli.engine.exchange import hub
from usepcli.engine.exchange.foreign_parts import Found, TextTower, count, plain, renamed, size, some
from usepcli.errors import BadInput, InputNotFound, OutputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

OWN = "query_encoder."
_BRANCH = r"query_encoder\.model\.text_branch\."
_PROJECTION = r"query_encoder\.model\.text_projection\."
_RULES = (
    (rf"{_BRANCH}(embeddings\.\w+\.\w+|encoder\.layer\..+|pooler\..+)", r"text_model.\1"),
    (rf"{_PROJECTION}0\.(.+)", r"text_projection.linear1.\1"),
    (rf"{_PROJECTION}2\.(.+)", r"text_projection.linear2.\1"),
)
# Places that count upwards, and what words are not needed for.
_DROPPED = (
    rf"{_BRANCH}embeddings\.(?:position|token_type)_ids",
    r"query_encoder\.model\.(?:(?:audio_branch|audio_projection|audio_transform|text_transform)\..+|logit_scale_[at])",
)
_ENDS = ("weight", "bias")
_WHOLE = (
    "text_model.embeddings.word_embeddings.weight", "text_model.embeddings.position_embeddings.weight",
    "text_model.embeddings.token_type_embeddings.weight",
    *(f"text_model.{part}.{end}" for part in ("embeddings.LayerNorm", "pooler.dense") for end in _ENDS),
    *(f"text_projection.linear{number}.{end}" for number in (1, 2) for end in _ENDS),
)  # fmt: skip
_LAYER = tuple(
    f"{part}.{end}"
    for part in (
        "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
        "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
    )
    for end in _ENDS
)  # fmt: skip
_HEAD = 64  # numbers of a head in every size of RoBERTa
_KINDS = ("clap", "clap_text_model")
_TOKENS = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
_ASKED = (
    "the folder of RoBERTa's tokenizer (tokenizer.json, or vocab.json and merges.txt, of roberta-base), or that of the "
    "whole CLAP (config.json, safetensors and tokenizer)"
)
_CLOSE = 1e-3


def take(found: Found, reads: dict[str, Tensor], text: str, where: str) -> None:
    """Add to `found` what reads words: by the path `text`, or the tower of the checkpoint with the tokenizer there.

    UsageError without a path, InputNotFound or BadInput for one with something else.
    """
    tower = renamed(reads, _RULES, where, _DROPPED)
    if not text:
        raise UsageError(f"{where}: is asked in words, which a CLAP reads; say with --text-encoder {_ASKED}")
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise InputNotFound(f"--text-encoder {text}: no such folder; expected {_ASKED}")
    wanted = int(found.model["emb_dim"])
    if _kind(folder) in _KINDS and any(folder.glob("*.safetensors")):
        _by_path(found, folder, tower, wanted)
    else:
        found.tower = _taken(tower, folder, wanted, where)
        found.model["cond_dim"] = found.tower.config["hidden_size"]


def beside(model: Path) -> Path:
    """Return the folder beside a model file in which its tower stands."""
    return model.with_name(f"{model.stem}_text")


@contextmanager
def built(tower: TextTower | None, out: Path) -> Iterator[Path | None]:
    """Give a folder aside with the tower in it, None without one; it goes unless it is moved away."""
    if tower is None:
        yield None
        return
    from safetensors.torch import save

    with hub.aside(out.parent, "text", out) as temporary:
        folder = temporary / "text"
        folder.mkdir()
        files.write_bytes(folder / "model.safetensors", save(tower.state, {"format": "pt"}))
        (folder / "config.json").write_text(json.dumps(tower.config, indent=1) + "\n", encoding="utf-8")
        for name in _TOKENS:
            if (tower.tokenizer / name).is_file():
                shutil.copyfile(tower.tokenizer / name, folder / name)
        _state_class(folder / "tokenizer_config.json")
        yield folder


def moved(folder: Path, place: Path, overwrite: bool) -> None:
    """Move a folder of a tower to its place; OutputError where another stands there and nothing says to replace it."""
    from usepcli.encoders.towers import sum_of

    if place.exists():
        if place.is_dir() and sum_of(place) == sum_of(folder):
            return
        if not overwrite:
            raise OutputError(f"{place}: exists already, and is another text tower; choose another name or --overwrite")
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    os.replace(folder, place)


def _state_class(path: Path) -> None:
    """Say in the settings of a tokenizer that it is RoBERTa's, which those of roberta-base leave to its network."""
    held = _json(path) if path.is_file() else {}
    held = {"tokenizer_class": "RobertaTokenizer", **held}
    path.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")


def _kind(folder: Path) -> str:
    """Return the model type that a folder states; '' where it states none."""
    return str(_json(folder / "config.json").get("model_type", "")) if (folder / "config.json").is_file() else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise BadInput(f"{path}: not readable as JSON ({plain(fault)[:120]}); expected {_ASKED}") from fault
    if not isinstance(found, dict):
        raise BadInput(f"{path}: holds a {type(found).__name__}; expected an object")
    return found


def _by_path(found: Found, folder: Path, tower: dict[str, Tensor], wanted: int) -> None:
    """Take a CLAP where it lies; BadInput for one of another size, or another than the checkpoint's own."""
    from usepcli.encoders.towers import sum_of

    theirs = _weights(folder)
    where = f"--text-encoder {folder}"
    _fits(theirs, wanted, where)
    for name, own in tower.items():
        if (there := theirs.get(name)) is None or there.shape != own.shape or _apart(there, own) > _CLOSE:
            raise BadInput(
                f"{where}: another CLAP than the one in the checkpoint, by which it learned ({name} differs); give a "
                "folder of the tokenizer alone, and the checkpoint's own is taken"
            )
    if not tower:
        found.notes.append(f"nothing in the checkpoint tells whether {folder} is the CLAP that it learned with")
    found.model |= {
        "conditioner_path": str(folder.resolve()), "conditioner_sha256": sum_of(folder),
        "cond_dim": theirs[_WHOLE[0]].shape[1],
    }  # fmt: skip


def _weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of the text tower in a folder."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                found |= {name: file.get_tensor(name) for name in file.keys() if name.startswith("text_")}  # noqa: SIM118
        except (SafetensorError, OSError) as fault:
            raise BadInput(f"{path}: not a readable safetensors file ({plain(fault)[:120]})") from fault
    return found


def _fits(tower: dict[str, Tensor], wanted: int, where: str) -> None:
    """BadInput where a tower is not of two layers at its end, or of vectors that the network does not hear."""
    size(tower, _WHOLE[0], where, 2)
    width = size(tower, "text_projection.linear2.weight", where, 2)[0]
    if width != wanted:
        raise BadInput(f"{where}: {width} numbers for a phrase, and the network hears {wanted}; expected {_ASKED}")


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max() / b.float().abs().max().clamp_min(1e-12))


def _taken(tower: dict[str, Tensor], folder: Path, wanted: int, where: str) -> TextTower:
    """Return the tower of the checkpoint with the tokenizer of a folder; BadInput where either is another."""
    at = f"--text-encoder {folder}"
    if not tower:
        raise BadInput(f"{where}: holds no CLAP, and {folder} is none; expected with --text-encoder a whole CLAP")
    layers = count({name.removeprefix("text_model."): value for name, value in tower.items()}, "encoder.layer")
    whole = {*_WHOLE, *(f"text_model.encoder.layer.{k}.{part}" for k in range(layers) for part in _LAYER)}
    lacking, more = sorted(whole - tower.keys()), sorted(tower.keys() - whole)
    if lacking or more:
        raise BadInput(
            f"{where}: no whole text tower: missing {some(lacking) or 'none'}; unknown {some(more) or 'none'}"
        )
    _fits(tower, wanted, where)
    tokens, width = size(tower, _WHOLE[0], where, 2)
    if (known := _tokens(folder, at)) != tokens:
        raise BadInput(f"{at}: a tokenizer of {known} tokens, and the tower in the checkpoint knows {tokens}")
    config: dict[str, Any] = {
        "model_type": "clap_text_model", "architectures": ["ClapTextModelWithProjection"], "vocab_size": tokens,
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": max(1, width // _HEAD),
        "intermediate_size": size(tower, "text_model.encoder.layer.0.intermediate.dense.weight", where, 2)[0],
        "max_position_embeddings": size(tower, _WHOLE[1], where, 2)[0],
        "type_vocab_size": size(tower, _WHOLE[2], where, 2)[0], "hidden_act": "gelu", "layer_norm_eps": 1e-5,
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "projection_dim": wanted,
        "projection_hidden_act": "relu",
    }  # fmt: skip
    import torch

    # transformers keeps these two with the weights, and says so where they are not.
    places = torch.arange(size(tower, _WHOLE[1], where, 2)[0])[None]
    own = {"position_ids": places, "token_type_ids": torch.zeros_like(places)}
    whole_state = {name: value.contiguous() for name, value in tower.items()}
    return TextTower(whole_state | {f"text_model.embeddings.{k}": v for k, v in own.items()}, config, folder)


def _tokens(folder: Path, where: str) -> int:
    """Return how many tokens the tokenizer in a folder knows; BadInput where there is none."""
    if (folder / "tokenizer.json").is_file():
        model = _json(folder / "tokenizer.json").get("model")
        known = model.get("vocab") if isinstance(model, dict) else None  # marks are a part of it
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        known = _json(folder / "vocab.json")
    else:
        raise BadInput(f"{where}: neither a CLAP nor a tokenizer; expected {_ASKED}")
    if not isinstance(known, dict) or not all(isinstance(place, int) for place in known.values()) or not known:
        raise BadInput(f"{where}: no tokenizer of words and numbers; expected {_ASKED}")
    return max(known.values()) + 1
