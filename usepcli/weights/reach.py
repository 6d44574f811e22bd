"""Where models are found by name: those that come with usep, ./models, $USEP_MODELS, the cache of pulled ones.

A name that comes with usep always means that model, whatever lies in the folders: `default` is the same everywhere.
Among the folders the first wins. Cheap enough for TAB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from usepcli.errors import InputNotFound, UsageError, choices
from usepcli.weights import public

SUFFIX = ".safetensors"
JOINT = "+"  # between models that separate together


def shipped_folder() -> Path:
    """Return the folder of the models that come with usep."""
    return Path(str(resources.files("usepcli"))) / "pretrained"


def cache(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder that pulled models go to: usep/models in $XDG_CACHE_HOME or ~/.cache."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CACHE_HOME", "")
    # The standard has relative values ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "usep" / "models"


def folders(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Return the existing model folders of the user in order of search, each once."""
    environ = os.environ if environ is None else environ
    listed = [Path(item).expanduser() for item in environ.get("USEP_MODELS", "").split(os.pathsep) if item]
    unique: dict[str, Path] = {}
    for folder in [Path("models"), *listed, cache(environ)]:
        if folder.is_dir():
            unique.setdefault(os.path.realpath(folder), folder)
    return list(unique.values())


def files(folder: Path) -> dict[str, Path]:
    """Return the model files directly in a folder, by name."""
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}")) if path.is_file()}


def named(shipped: Mapping[str, Path], environ: Mapping[str, str] | None = None) -> dict[str, list[Path]]:
    """Return for every name in reach the files that bear it, the one that it means first."""
    found = {name: [path] for name, path in shipped.items()}
    for folder in folders(environ):
        for name, path in files(folder).items():
            found.setdefault(name, []).append(path)
    return found


def released() -> dict[str, Path]:
    """Return the models that ship with the package, by name."""
    return files(shipped_folder())


def known() -> dict[str, list[Path]]:
    """Return the files of every model name in reach, the one that the name means first."""
    return named(released())


def find_models(ref: str | Path) -> list[tuple[str, Path]]:
    """Return name and file of every model that a text with + between them means; of one that is there, itself alone."""
    parts, path = str(ref).split(JOINT), Path(os.path.expanduser(ref))
    whole = path.is_file() or any((path / name).is_file() for name in ("best.safetensors", "run.json"))
    if len(parts) == 1 or str(ref) in known() or whole:
        return [(str(ref), find_model(ref))]
    if not all(parts):
        raise UsageError(f"--model: found '{ref}'; expected names or files with one {JOINT} between each two")
    return [(part, find_model(part)) for part in parts]


def find_model(ref: str | Path) -> Path:
    """Return the weights file of a model's name in reach, a .safetensors path or a run folder.

    A name that comes with usep goes before a path spelled alike (./default is the path), a path before other names.
    """
    path, names = Path(os.path.expanduser(ref)), known()
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
    if row := public.named(str(ref)) or public.of(str(ref)):
        raise InputNotFound(f"model '{row.name}' is a public one and not here yet; fetch it with: {row.command()}")
    if JOINT in str(ref):
        raise InputNotFound(f"'{ref}': one model is needed here, and there is none of this name; name one alone")
    if path.suffix or len(path.parts) > 1:
        raise InputNotFound(f"{path}: no such model file or run folder")
    raise InputNotFound(choices("model", str(ref), names) if names else f"unknown model '{ref}'")
