"""Sweeps: which trainings there are for a grid or a list of settings, and the folder of each.

A file names settings by their dotted keys, as --set does:
    profile: small_pit                          # unless the command line names one
    grid: {optim.lr: [1.0e-3, 3.0e-4], seed: [0, 1]}        # every combination
    runs: {small: {model.dim: 64}, large: {model.dim: 128}} # by name; where there is a grid, each meets all of it
    evaluate: {split: test, metric: [si-snri]}  # of every run; by default its validation metric on its validation split
On the command line a grid is KEY=VALUE,VALUE, once for each key.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usepcli.errors import ConfigError, InputNotFound, UsageError, choices
from usepcli.files import show

MOST_RUNS = 1000
ENDINGS = (".yaml", ".yml")
_KEYS = ("profile", "grid", "runs", "evaluate")
_EVALUATE = ("data", "split", "metric", "protocol", "limit")
_PLAIN = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class Run:
    """One training: its folder below that of the sweep, and its settings as --set takes them."""

    name: str
    settings: dict[str, str]

    @property
    def sets(self) -> list[str]:
        """The settings as words of --set."""
        return [f"{key}={value}" for key, value in self.settings.items()]


@dataclass(frozen=True)
class Sweep:
    """The trainings of a sweep, the profile that its file names ('' for none), and how each is scored."""

    runs: list[Run]
    profile: str = ""
    evaluate: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The settings in which the trainings differ."""
        return list(dict.fromkeys(key for run in self.runs for key in run.settings))


def read(asked: Sequence[str]) -> Sweep:
    """Return the sweep of --sweep: one file, or KEY=VALUE,VALUE for each key; UsageError or ConfigError for neither."""
    files = [text for text in asked if text.endswith(ENDINGS) and "=" not in text]
    if files and len(asked) > 1:
        raise UsageError(f"--sweep: found {len(asked)}, one of them a file; give the file alone, or KEY=VALUE,VALUE")
    return from_file(Path(files[0])) if files else Sweep(from_words(asked))


def folder_name(asked: Sequence[str], profile: str) -> str:
    """Return how the folder of a sweep is called where nobody says: as its file, or after the profile."""
    return Path(asked[0]).stem if asked[0].endswith(ENDINGS) else f"{Path(profile).stem}_sweep"


def from_words(asked: Sequence[str]) -> list[Run]:
    """Return the runs of a grid given as KEY=VALUE,VALUE; UsageError for what is none, or too many runs."""
    grid: dict[str, list[str]] = {}
    for text in asked:
        key, sign, values = text.partition("=")
        if not sign or not re.fullmatch(r"[\w.]+", key) or not all(found := _split(values)):
            raise UsageError(f"--sweep: found '{text}'; expected KEY=VALUE,VALUE, e.g. optim.lr=1e-3,3e-4, or a .yaml")
        if key in grid or len(set(found)) < len(found):
            raise UsageError(f"--sweep: {key} is given twice, or has one value twice")
        grid[key] = found
    return _runs({"": {}}, grid, UsageError, "--sweep") if grid else []


def from_file(path: Path) -> Sweep:
    """Return the sweep that a file describes; ConfigError with file and key where it describes none."""
    from usepcli.profile import yaml_file
    from usepcli.profile.faults import ProfileError

    label = show(path)
    try:
        document = yaml_file.read(path, label)
    except InputNotFound:
        raise InputNotFound(f"--sweep: {label} does not exist") from None
    except ProfileError as unread:
        fault = unread.faults[0]
        raise ConfigError(f"--sweep: {fault.where}: found {fault.found}, expected {fault.expected}") from None
    if document.faults:
        fault = document.faults[0]
        raise ConfigError(f"{fault.where}: {fault.key}: found {fault.found}, expected {fault.expected}")
    values = document.values

    def where(key: str) -> str:
        return f"{label}:{document.lines.get(key, 1)}: {key}"

    for key in values:
        if key not in _KEYS:
            raise ConfigError(f"{where(key)}: {choices('key of a sweep', key, _KEYS)}")
    for key in ("grid", "runs", "evaluate"):
        if not isinstance(values.get(key, {}), dict):
            raise ConfigError(f"{where(key)}: found {values[key]!r}; expected keys and values")
    grid = {key: _choices(where(f"grid.{key}"), found) for key, found in values.get("grid", {}).items()}
    named: dict[str, dict[str, str]] = {}
    for name, found in values.get("runs", {}).items():
        if not isinstance(found, dict) or not re.fullmatch(r"[\w.=,+-]+", name) or name.startswith("."):
            raise ConfigError(f"{where(f'runs.{name}')}: expected a name of letters and digits, and settings by key")
        named[name] = {key: _text(where(f"runs.{name}"), value) for key, value in found.items()}
        if both := sorted(named[name].keys() & grid.keys()):
            raise ConfigError(f"{where(f'runs.{name}.{both[0]}')}: stands in the grid, too; expected one of both")
    if not grid and not named:
        raise ConfigError(f"{label}: neither grid nor runs; expected one of them, or both")
    profile = values.get("profile", "")
    if not isinstance(profile, str):
        raise ConfigError(f"{where('profile')}: found {profile!r}; expected the name of a profile")
    evaluate = values.get("evaluate", {})
    for key, value in evaluate.items():
        if key not in _EVALUATE:
            raise ConfigError(f"{where(f'evaluate.{key}')}: {choices('option of evaluate', key, _EVALUATE)}")
        if not (_is_limit(value) if key == "limit" else _is_word(value) or (key == "metric" and _is_words(value))):
            expected = "a number" if key == "limit" else "a word"
            raise ConfigError(f"{where(f'evaluate.{key}')}: found {value!r}; expected {expected}")
    return Sweep(_runs(named or {"": {}}, grid, ConfigError, label), profile, dict(evaluate))


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_word, value))


def _runs(
    named: Mapping[str, Mapping[str, str]],
    grid: Mapping[str, Sequence[str]],
    error: type[ConfigError] | type[UsageError],
    where: str,
) -> list[Run]:
    """Return every named run under every combination of the grid, in folders of different names."""
    every = [dict(zip(grid, each, strict=True)) for each in itertools.product(*grid.values())]
    if len(named) * len(every) > MOST_RUNS:
        raise error(f"{where}: {len(named) * len(every)} runs; expected at most {MOST_RUNS}")
    made: list[Run] = []
    folders: set[str] = set()
    for name, own in named.items():
        if same := [other for other in named if other != name and named[other] == own]:
            raise error(f"{where}: runs {name} and {same[0]} have the same settings; expected different ones")
        for combination in every:
            told = ",".join(f"{key}={value}" for key, value in combination.items())
            folder = re.sub(r"[^\w.=,+-]+", "_", ",".join(filter(None, (name, told))))[:200]
            folder = f"{len(made)}-{folder}" if folder.lower() in folders else folder
            folders.add(folder.lower())  # some disks know no capitals
            made.append(Run(folder, {**own, **combination}))
    return made


def _choices(where: str, found: Any) -> list[str]:
    if not isinstance(found, list) or not found:
        raise ConfigError(f"{where}: found {found!r}; expected a list of values")
    texts = [_text(where, value) for value in found]
    if len(set(texts)) < len(texts):
        raise ConfigError(f"{where}: one value stands there twice; expected different ones")
    return texts


def _text(where: str, value: Any) -> str:
    """Return a value as --set takes it."""
    if isinstance(value, dict):
        raise ConfigError(f"{where}: found keys below a setting; expected dotted keys, such as optim.lr: 1.0e-3")
    if isinstance(value, list):
        return f"[{', '.join(_text(where, one) for one in value)}]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if not isinstance(value, str):
        return str(value)
    from usepcli.profile.yaml_file import parse_value

    return value if _PLAIN.fullmatch(value) and parse_value(value) == value else json.dumps(value)


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found
