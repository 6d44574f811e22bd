"""Find a profile, follow `extends`, lay environment, `--set` and flags over it, and bind the result.

Precedence: flags > --set > USEP_* > profile > default. A section is merged key by key and a list is replaced
as a whole. When a layer names another model, loss or objective, the arguments of the old one are dropped.
In all texts but those for people, ~, $NAME and ${NAME} become what they stand for in a shell.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usepcli import files
from usepcli.errors import ConfigError, did_you_mean
from usepcli.profile import find, yaml_file
from usepcli.profile.bind import OPEN, bind
from usepcli.profile.faults import Fault, ProfileError
from usepcli.profile.render import render_config
from usepcli.profile.schema import Profile

__all__ = ["Profile", "load_profile", "profiles_available", "render_config"]

# Read elsewhere; every other USEP_ variable names a profile key.
RESERVED = frozenset(
    f"USEP_{name}" for name in ("PROFILES", "MODELS", "DEBUG", "CACHE", "SHARED_DATA", "THREADS", "RUNS", "KEEP_HEAP")
)
_FOR_PEOPLE = ("about", "credits", "licence", "extends")
_DEFAULT_NAMES = {"loss": "snr", "objective": "pit"}


@dataclass
class _Layer:
    """Nested values, and where each dotted key was set."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def put(self, dotted: str, value: Any, origin: str) -> None:
        """Set one dotted key; a fault if the path leads through a plain value."""
        *sections, name = dotted.split(".")
        values, path = self.values, ""
        for section in sections:
            path = f"{path}.{section}" if path else section
            values = values.setdefault(section, {})
            self.origin.setdefault(path, origin)
            if not isinstance(values, dict):
                self.faults.append(Fault(dotted, origin, f"'{path}' set to a value as well", "one of the two"))
                return
        values[name] = value
        self.origin[dotted] = origin


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _renames(kind: str, below: _Layer, above: _Layer) -> bool:
    sections = [layer.values.get(kind) for layer in (below, above)]
    old, new = (section if isinstance(section, dict) else {} for section in sections)
    return "name" in new and new["name"] != old.get("name", _DEFAULT_NAMES.get(kind))


def _overlay(below: _Layer, above: _Layer) -> _Layer:
    """Return `above` laid over `below`."""
    dropped = [kind for kind in OPEN if _renames(kind, below, above)]
    values = {key: value for key, value in below.values.items() if key not in dropped}
    origin = {key: place for key, place in below.origin.items() if key.split(".")[0] not in dropped}
    return _Layer(_merge(values, above.values), origin | above.origin, below.faults + above.faults)


def _expand(layer: _Layer, environ: Mapping[str, str]) -> _Layer:
    """Return a layer with paths written out; what cannot be is a fault of its key."""

    def plain(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: plain(item, f"{key}.{name}" if key else name) for name, item in value.items()}
        if isinstance(value, list):
            return [plain(item, f"{key}[{i}]") for i, item in enumerate(value)]
        if not isinstance(value, str) or key in _FOR_PEOPLE:
            return value
        try:
            return files.expanded(value, environ)
        except ValueError as fault:
            where = layer.origin.get(key.split("[")[0], "")
            layer.faults.append(Fault(key, where, str(fault), "a path that is known here; $$ stands for a dollar sign"))
            return value

    return _Layer(plain(layer.values, ""), layer.origin, layer.faults)


def _read(path: Path) -> _Layer:
    label = find.label(path)
    document = yaml_file.read(path, label)
    origin = {key: f"{label}:{line}" for key, line in document.lines.items()}
    return _Layer(document.values, origin, document.faults)


def _parent(layer: _Layer, path: Path, chain: list[Path], environ: Mapping[str, str]) -> Path | None:
    """Return the file that `extends` names, or None; a profile may extend a namesake further along."""
    ref = layer.values.get("extends")
    if not isinstance(ref, str) or not ref:
        return None
    here = layer.origin["extends"]
    if ref.endswith(find.SUFFIXES):
        candidates = [path.parent / find.home(ref)]
    else:
        candidates = list(find.named(ref, environ, path.parent)) if find.NAME.fullmatch(ref) else []
    fresh = [found for found in candidates if found.resolve() not in chain]
    if fresh and fresh[0].is_file():
        return fresh[0]
    if candidates and not fresh:
        fault = Fault("extends", here, f"a circle back to '{ref}'", "a chain that ends")
    elif candidates:
        fault = Fault("extends", here, f"'{ref}', which does not exist", "a file beside this one")
    else:
        near = did_you_mean(ref, find.paths(environ))
        fault = Fault("extends", here, f"the unknown profile '{ref}'", "the name of a profile", near)
    raise ProfileError(path.stem, [*layer.faults, fault])


def _chain(path: Path, environ: Mapping[str, str]) -> _Layer:
    """Return the profile of `path` laid over everything that it extends."""
    layers, chain = [], []
    current: Path | None = path
    while current is not None:
        layer = _read(current)
        layers.append(layer)
        chain.append(current.resolve())
        current = _parent(layer, current, chain, environ)
    merged = layers.pop()
    while layers:
        merged = _overlay(merged, layers.pop())
    return merged


def _from_environ(environ: Mapping[str, str]) -> _Layer:
    layer = _Layer()
    for variable in sorted(environ):
        # An empty variable counts as unset, as elsewhere in the shell.
        if variable.startswith("USEP_") and variable not in RESERVED and environ[variable]:
            key = variable.removeprefix("USEP_").lower().replace("__", ".")
            _put_text(layer, key, environ[variable], variable)
    return layer


def _from_sets(sets: Sequence[str]) -> _Layer:
    layer = _Layer()
    for item in sets:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            layer.faults.append(Fault("--set", "command line", f"'{item}'", "key=value, such as train.epochs=3"))
        else:
            _put_text(layer, key.strip(), text, "--set")
    return layer


def _put_text(layer: _Layer, key: str, text: str, origin: str) -> None:
    if key == "extends":
        layer.faults.append(Fault(key, origin, f"'{text}'", "extends in a profile only"))
        return
    try:
        # `--set data.noise=` empties a text; a shell strips the quotes that YAML would want for it.
        layer.put(key, yaml_file.parse_value(text) if text else "", origin)
    except ValueError:
        layer.faults.append(Fault(key, origin, f"'{text}'", "a plain value or a list such as [1, 2]"))


def _from_flags(flags: Mapping[str, Any]) -> _Layer:
    layer = _Layer()
    for key, value in flags.items():
        if value is not None:
            layer.put(key, value, "--" + key.rpartition(".")[2].replace("_", "-"))
    return layer


def load_profile(
    ref: str,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
) -> Profile:
    """Return the typed profile named `ref` (or at a path ending in .yaml) with every override applied.

    `sets` are "a.b=c" texts, `environ` replaces os.environ, `flags` maps dotted keys to the values of command
    line options (None: not given). `model` takes the place of the profile's section, below all of these. Raises
    ConfigError (exit 78) that lists all faults, and InputNotFound for a path that does not exist.
    """
    environ = os.environ if environ is None else environ
    path = find.find(ref, environ)
    layer = _chain(path, environ)
    if model is not None:
        origin = {key: place for key, place in layer.origin.items() if key.split(".")[0] != "model"}
        origin |= dict.fromkeys(("model", *(f"model.{key}" for key in model)), "--init-from")
        layer = _Layer({**layer.values, "model": dict(model)}, origin, layer.faults)
    for above in (_from_environ(environ), _from_sets(sets), _from_flags(flags or {})):
        layer = _overlay(layer, above)
    layer = _expand(layer, environ)
    return bind(layer.values, layer.origin, path.stem, find.label(path), layer.faults)


def profiles_available(environ: Mapping[str, str] | None = None) -> list[tuple[str, str, Path]]:
    """Return (name, about, file) of every profile in reach; an unreadable one says so in its about."""
    found = []
    for name, path in find.paths(environ).items():
        try:
            about = str(yaml_file.read(path, find.label(path)).values.get("about", ""))
        except ConfigError as error:
            about = f"unreadable: {error}"
        found.append((name, about, path))
    return found
