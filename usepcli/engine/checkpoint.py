"""Files that hold a model: released weights with their card, and the state from which a run resumes.

Released weights are safetensors; the card, the model's settings and a sha256 of the weights lie in the
metadata. A resume file is a torch archive behind a header with its sha256, read with weights_only=True.
Both are written beside the target, flushed, and moved into place, so that a kill leaves the old one or the new.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from usepcli.engine import fitting, model_folders
from usepcli.engine.fitting import load_into as load_into
from usepcli.errors import BadInput, InputNotFound, IOFault, OutputError, choices
from usepcli.models.separator import SeparationModel

FORMAT = 1
MAGIC = b"USEPRUN1"
# The states of a run folder, the newest first.
SAVED = ("last.ckpt", "prev.ckpt")


@dataclass
class Card:
    """What a model is, what it learned from, what it may be used for, and how it scored."""

    name: str = ""
    about: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    sample_rate: int = 0
    n_src: int = 0
    objective: str = ""
    training_data: str = ""
    licence: str = ""
    credits: str = ""
    scores: list[dict[str, Any]] = field(default_factory=list)
    profile: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    # Where the weights came from, if usep did not train them.
    origin: str = ""

    def to_json(self) -> str:
        """Return the card as one JSON object."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card without control characters; keys of later versions are passed over; ValueError if it is none."""
        raw, empty = _printable(json.loads(text)), cls()
        if not isinstance(raw, dict):
            raise ValueError(f"found a {type(raw).__name__}, expected an object")
        held = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
        for key, value in held.items():
            if not isinstance(value, type(getattr(empty, key))) or isinstance(value, bool):
                expected = type(getattr(empty, key)).__name__
                raise ValueError(f"{key} is a {type(value).__name__}, expected {expected}")
        if not all(isinstance(score, dict) for score in held.get("scores", ())):
            raise ValueError("a score is no object")
        return cls(**held)

    @property
    def segment_s(self) -> float:
        """Seconds of one training segment as the profile states them, 0 where it does not."""
        data = self.profile.get("data")
        stated = data.get("segment_s") if isinstance(data, dict) else 0
        return float(stated) if isinstance(stated, (int, float)) and math.isfinite(stated) else 0.0


def _printable(value: Any) -> Any:
    """Return a JSON value whose texts cannot drive a terminal."""
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return "".join(c for c in value if c.isprintable() or c == "\n") if isinstance(value, str) else value


def released() -> dict[str, Path]:
    """Return the models that ship with the package, by name."""
    return model_folders.files(model_folders.shipped_folder())


def known() -> dict[str, list[Path]]:
    """Return the files of every model name in reach, the one that the name means first."""
    return model_folders.named(released())


def find_model(ref: str | Path) -> Path:
    """Return the weights file of a model's name (see model_folders), a .safetensors path or a run folder.

    A name that comes with usep goes before a path spelled alike (./default is the path), a path before other names.
    """
    path, names = Path(ref), known()
    best = path / "best.safetensors"
    if str(ref) in names and (str(ref) in released() or not (path.is_file() or best.is_file())):
        return names[str(ref)][0]
    if best.is_file():
        return best
    if path.is_file():
        return path
    if (path / "run.json").is_file():
        raise InputNotFound(f"{path}: no best.safetensors in this run folder yet; let the run validate once")
    if path.is_dir():
        raise InputNotFound(
            f"{path}: no best.safetensors in this folder, which is no run folder; `usep train` makes one"
        )
    if path.suffix or len(path.parts) > 1:
        raise InputNotFound(f"{path}: no such model file or run folder")
    raise InputNotFound(choices("model", str(ref), names) if names else f"unknown model '{ref}'")


def _digest(state: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def read_card(path: Path) -> tuple[Card, str]:
    """Return the card and the sha256 of the weights that a model file declares."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
    except (SafetensorError, OSError) as fault:
        raise BadInput(f"{path}: not a readable model file ({fitting.what_instead(path) or fault})") from fault
    if "usep" not in meta:
        raise BadInput(f"{path}: a safetensors file without a usep card; only models written by usep can be loaded")
    try:
        return Card.from_json(meta["usep"]), meta.get("sha256", "")
    except (ValueError, RecursionError) as fault:
        raise BadInput(f"{path}: its card cannot be read ({fault}); fetch the file again") from fault


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a model file; BadInput if they do not match the sha256 in the file."""
    _, expected = read_card(path)
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _digest(state) != expected:
        raise BadInput(f"{path}: weights do not match their sha256; the file is damaged, fetch it again")
    return state


def load_model(ref: str | Path) -> tuple[SeparationModel, Card]:
    """Return a model in eval mode on the CPU, and its card; `ref` as in find_model."""
    path = find_model(ref)
    card, _ = read_card(path)
    model = fitting.model(card.model, read_weights(path), str(path))
    for what, said, is_ in (("Hz", card.sample_rate, model.sample_rate), ("outputs", card.n_src, model.n_src)):
        if said not in (0, is_):
            raise BadInput(f"{path}: the card says {said} {what}, the model in the same file has {is_}")
    return model, card


def save_model(path: Path, state: Mapping[str, Tensor], card: Card, dtype: str = "float32") -> None:
    """Write weights and card; `dtype` float16 halves the file (loading converts back)."""
    kind = {"float32": torch.float32, "float16": torch.float16}[dtype]
    held = {k: (v.to(kind) if v.is_floating_point() else v).detach().cpu().contiguous() for k, v in state.items()}
    atomic_write(path, to_safetensors(held, {"usep": card.to_json(), "sha256": _digest(held)}))


def atomic_write(path: Path, data: bytes) -> None:
    """Write bytes beside the target, flush to the disk, then move into place; whatever ends it leaves no debris."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except PermissionError as fault:
        raise OutputError(f"{path}: cannot be written ({fault.strerror})") from fault
    except OSError as fault:
        raise IOFault(f"{path}: {fault.strerror or fault}; {len(data)} bytes were needed") from fault
    finally:
        with suppress(OSError):  # gone after a good end, or never made where nothing may be written
            temporary.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a resume file; the file that stood there becomes `prev.ckpt` beside it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getvalue()
    previous = path.with_name("prev" + path.suffix)
    if path.exists():
        # A hard link, so that there is no moment without a valid file under one of the two names.
        link = previous.with_name(f"{previous.name}.tmp.{os.getpid()}")
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous)
    atomic_write(path, MAGIC + hashlib.sha256(body).digest() + body)


def load_state(path: Path) -> dict[str, Any]:
    """Read a resume file; BadInput if it is short, damaged or not ours."""
    raw = path.read_bytes()
    head = len(MAGIC)
    body = raw[head + 32 :]
    if raw[:head] != MAGIC or hashlib.sha256(body).digest() != raw[head : head + 32]:
        raise BadInput(f"{path}: damaged or not a usep checkpoint (sha256 does not match)")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state


def load_last(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the newest readable state of a run folder (None for a new run) and a warning or ''."""
    faults: list[str] = []
    for name in SAVED:
        if (folder / name).exists():
            try:
                return load_state(folder / name), "; ".join(faults)
            except BadInput as fault:
                faults.append(str(fault))
    if faults:
        raise BadInput("; ".join(faults) + "; no readable checkpoint is left, start in another folder with -o")
    return None, ""
