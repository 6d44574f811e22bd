"""The files of a foreign checkpoint, one or a folder of them, read as tensors, plain values and text, or not at all.

Torch files are opened by weights_only=True alone; YAML and JSON are text, of which nothing is made but text, numbers,
lists and dictionaries. Names are those inside the folder; what nobody asks for is not opened, and not fetched.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from usepcli.engine.exchange.foreign_parts import plain
from usepcli.engine.exchange.foreign_text import from_yaml
from usepcli.errors import BadInput, InputNotFound
from usepcli.files import MOST_JSON, parse_json
from usepcli.weights import archives, cards

if TYPE_CHECKING:
    from torch import Tensor

NESTED = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "model.", "separator.", "ss_model.")
# Classes that a torch file may name: what they are called is all that is read of them.
_NAMED = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs", "demucs.wdemucs.WDemucs")
_MOST_FILES = 10_000
_DEEPEST = 6  # folders


class Source:
    """One checkpoint: the names of its files, and what is in those that are asked for."""

    def __init__(self, where: str, names: Sequence[str], path: Callable[[str], Path]) -> None:
        """Take what messages call it, the names, and what gives the local file of a name, fetching it if need be."""
        self.where, self.names, self._path = where, tuple(names), path
        self.used: dict[str, Path] = {}
        self._held: dict[str, dict[str, Any]] = {}

    @property
    def single(self) -> str:
        """The name of the only file, empty for a folder."""
        return self.names[0] if len(self.names) == 1 else ""

    @property
    def opened(self) -> tuple[str, ...]:
        """The names of the files of weights that were asked for."""
        return tuple(sorted(self._held))

    def at(self, name: str) -> str:
        """Return what a message calls one of the files."""
        return self.where if self.single else f"{self.where}: {name}"

    def path(self, name: str) -> Path:
        """Return the local file of a name; it counts as used from now on."""
        if name not in self.used:
            self.used[name] = self._path(name)
        return self.used[name]

    def first(self, *patterns: str) -> str:
        """Return the first name that a pattern matches from its last folder on, '' where none does."""
        found = (n for p in patterns for n in self.names if re.fullmatch(rf"(?:.*/)?(?:{p})", n))
        return next(found, "")

    def weights(self, *patterns: str) -> str:
        """Return the only file, whatever its name, or the first of a folder that a pattern matches."""
        return self.single or self.first(*patterns)

    def raw(self, name: str) -> dict[str, Any]:
        """Return the dictionary in a torch or safetensors file; BadInput if it holds more than plain values."""
        if name not in self._held:
            self._held[name] = load_plain(self.path(name), self.at(name))
        return self._held[name]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the state dict that a file is or holds, without wrappers; {} where it has none."""
        return state_of(self.raw(name))

    def state(self, name: str) -> dict[str, Tensor]:
        """Return the same; BadInput unless it is a state dict of plain arrays of finite numbers."""
        return checked(self.tensors(name), self.at(name))

    def text(self, name: str) -> str:
        """Return a text file; BadInput if it is none, or larger than a settings file is."""
        path = self.path(name)
        try:
            if path.stat().st_size > MOST_JSON:
                raise ValueError(f"{path.stat().st_size} bytes")
            return path.read_text(encoding="utf-8")
        except ValueError as fault:
            raise BadInput(f"{self.at(name)}: no text file of settings ({fault})") from fault

    def yaml(self, name: str) -> dict[str, Any]:
        """Return the plain values of a YAML file, tags as text."""
        return from_yaml(self.text(name), self.at(name))

    def json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file."""
        try:
            found = parse_json(self.text(name))
        except (ValueError, RecursionError) as fault:
            raise BadInput(f"{self.at(name)}: not readable as JSON ({plain(fault)[:120]})") from fault
        if not isinstance(found, dict):
            raise BadInput(f"{self.at(name)}: holds a {type(found).__name__}; expected an object")
        return found


def on_disk(source: Path) -> Source:
    """Return a checkpoint that is a file or a folder here; InputNotFound if there is none."""
    if source.is_dir():
        return Source(str(source), listed(source), lambda name: source / name)
    if not source.exists():
        raise InputNotFound(f"{source}: no such checkpoint file")
    return Source(str(source), [source.name], lambda name: source)


def listed(folder: Path) -> list[str]:
    """Return the names of the files in a folder and those beneath it, without hidden ones; BadInput for too many."""
    names: list[str] = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if len(parts) > _DEEPEST or any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        names.append("/".join(parts))
        if len(names) > _MOST_FILES:
            raise BadInput(f"{folder}: more than {_MOST_FILES} files; expected the folder of one checkpoint")
    return sorted(names, key=lambda name: (name.count("/"), name))


def load_plain(source: Path, where: str = "") -> dict[str, Any]:
    """Return the dictionary in a torch or safetensors file; BadInput if it holds more than tensors and plain values."""
    where = where or str(source)
    if not source.is_file():
        raise InputNotFound(f"{where}: no such checkpoint file")
    if source.suffix == ".safetensors":
        return dict(_safetensors(source, where))
    import torch
    from torch.torch_version import TorchVersion

    # asteroid writes torch.__version__, a str of its own class; for what demucs names stand classes without anything.
    known: list[Any] = [
        TorchVersion,
        (Text, "fractions.Fraction"),
        *((type("Klass", (), {"named": n}), n) for n in _NAMED),
    ]
    with open(source, "rb") as file, torch.serialization.safe_globals(known), warnings.catch_warnings():
        archives.check(file, where)
        warnings.simplefilter("ignore")  # of how torch reads a file that a user may not even have made
        try:
            raw = torch.load(file, map_location="cpu", weights_only=True)
        except (Exception, MemoryError) as fault:  # a damaged file raises almost anything, OSError too
            raise BadInput(f"{where}: {cards.what_instead(source) or _why(str(fault))}") from fault
    if not isinstance(raw, Mapping):
        raise BadInput(f"{where}: holds a {type(raw).__name__}; expected a dictionary of tensors")
    return dict(raw)


class Text:
    """What a class of numbers was made from in a file, kept as text: 39/5, of one part or of two."""

    def __init__(self, *parts: object) -> None:
        self.text = "/".join(map(plain, parts))


def metadata(source: Path, where: str) -> dict[str, str]:
    """Return the texts at the head of a safetensors file; BadInput if it is none."""
    try:
        with safe_open(source, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as fault:
        raise BadInput(f"{where}: not a readable safetensors file ({cards.what_instead(source) or fault})") from fault


def _safetensors(source: Path, where: str) -> dict[str, Tensor]:
    try:
        with safe_open(source, framework="pt") as file:
            if "usep" in (file.metadata() or {}):
                raise BadInput(f"{where}: a model file of usep already; use it as it is with --model")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as fault:
        raise BadInput(f"{where}: not a readable safetensors file ({cards.what_instead(source) or fault})") from fault


def _why(fault: str) -> str:
    if found := re.search(r"GLOBAL ([\w.]+)", fault):
        return (
            f"holds the Python object {found[1]}, and usep reads tensors and plain values alone; where the toolkit that"
            " made it is installed, and only if you trust the file, load it there and torch.save its state dict"
        )
    return f"not a readable torch file ({plain(fault)[:120]})"


def unwrapped(state: object) -> dict[str, Tensor]:
    """Return a mapping of names to tensors without the prefixes of wrappers; empty for anything else."""
    from torch import Tensor

    if not isinstance(state, Mapping) or not state:
        return {}
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        return {}
    out = dict(state)
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in out)), ""):
        out = {name.removeprefix(prefix): tensor for name, tensor in out.items()}
    return out


def state_of(raw: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict that a file is, or holds under a usual key, or one within another; {} for none."""
    for held in (raw, *(raw.get(key) for key in NESTED)):
        if state := unwrapped(held):
            return state
    inner = next((raw[key] for key in NESTED if isinstance(raw.get(key), Mapping)), None)
    return state_of(inner) if inner is not None and inner is not raw else {}


def checked(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return a state dict; BadInput unless its tensors are plain arrays of finite real numbers."""
    if not state:
        raise BadInput(f"{where}: state_dict holds no tensors by name")
    if odd := [name for name, tensor in state.items() if not _plain_numbers(tensor)]:
        raise BadInput(f"{where}: tensor '{plain(odd[0])}' holds no plain array of real numbers, as all have to")
    if broken := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise BadInput(f"{where}: {len(broken)} tensors hold NaN or infinity, the first: {plain(broken[0])}")
    return state


def _plain_numbers(tensor: Tensor) -> bool:
    """Return whether a tensor is a dense array of real numbers in memory, every element of it in the file."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
