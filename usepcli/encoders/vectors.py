"""Vectors of phrases from a file: whatever encoder made them, of words, of images, of sounds.

The vectors become a part of the model and are stored with it (one of 512 numbers takes 2 kB), so that a trained model
needs neither the file nor the encoder; it knows the phrases of the file, and no others.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from usepcli.encoders.base import Condition, Conditioner
from usepcli.encoders.labels import known, plain, unknown
from usepcli.encoders.lists import sha256_of, text_of
from usepcli.errors import BadInput, ConfigError, InputNotFound

_SUFFIXES = (".csv", ".npy", ".npz", ".safetensors", ".vec")
_EXPECTED = (
    "a .csv of phrase,number,number,... in each line; a .vec of word vectors; an .npz or .safetensors with a vector "
    "under every phrase; or a .npy (phrases, numbers) beside a .txt of the same name with a phrase in every line"
)


class Vectors(Conditioner):
    """Fixed vectors by phrase; one vector is token and whole at once. Case and spaces around do not matter."""

    name: ClassVar[str] = "vectors"
    stored: ClassVar[bool] = True
    length = 1
    table: Tensor

    def open(self) -> None:
        """Take the file and, to use a part of it alone, the phrases; ConfigError for vectors of another width."""
        if self.sha256:  # a stored model: the numbers come with its weights
            table = torch.zeros(len(self.phrases), self.token_dim)
        elif not self.path:
            raise ConfigError(f"model.conditioner_path: empty, and model.conditioner vectors needs a file: {_EXPECTED}")
        else:
            table = self._read(Path(self.path).expanduser())
        self.register_buffer("table", table)
        self._index = {plain(phrase): k for k, phrase in enumerate(self.phrases)}

    def _read(self, path: Path) -> Tensor:
        found = vectors_of(path)
        if self.phrases:
            if lacking := [phrase for phrase in self.phrases if plain(phrase) not in found]:
                raise BadInput(f"{path}: no vector for '{lacking[0][:60]}', one of model.classes")
            found = {plain(phrase): found[plain(phrase)] for phrase in self.phrases}
        else:
            self.phrases = tuple(phrase for phrase, _ in found.values())
        table = torch.from_numpy(np.stack([vector for _, vector in found.values()]))
        self.fits(str(path), table.shape[1], table.shape[1])
        self.known_by(sha256_of([path]))
        return table

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return the vectors of phrases; BadInput for one that the file had not, with the nearest that it had."""
        found = [known(phrase, self._index) for phrase in phrases]
        lacking = next((phrase for phrase, name in zip(phrases, found, strict=True) if not name), None)
        if lacking is not None:
            raise BadInput(unknown(lacking, self.phrases))
        rows = self.table[torch.tensor([self._index[name] for name in found], device=self.table.device)]
        return Condition(rows[:, None], torch.ones(len(rows), 1, dtype=torch.bool, device=rows.device), rows)


def vectors_of(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Return (phrase, float32 vector) of a file by the phrase without case; InputNotFound, BadInput in one line."""
    if path.suffix not in _SUFFIXES:
        raise BadInput(f"{path}: no file of vectors; expected {_EXPECTED}")
    if not path.is_file():
        raise InputNotFound(f"{path}: no such file")
    found: dict[str, tuple[str, np.ndarray]] = {}
    for phrase, numbers in _pairs(path):
        vector = np.asarray(numbers, np.float32).reshape(-1)
        first = next(iter(found.values()))[1] if found else vector
        shown = f"{path}: '{phrase[:60]}'"
        if not plain(phrase) or plain(phrase) in found:
            raise BadInput(f"{shown}: an empty phrase or one that is there twice; expected each once")
        if not vector.size or vector.shape != first.shape:
            raise BadInput(f"{shown}: {vector.size} numbers; expected {first.size or 'some'}, as its others have")
        if not np.isfinite(vector).all():
            raise BadInput(f"{shown}: numbers that are not finite")
        found[plain(phrase)] = phrase.strip(), vector
    if not found:
        raise BadInput(f"{path}: no vector in it; expected {_EXPECTED}")
    return found


def _pairs(path: Path) -> Iterator[tuple[str, Sequence[float] | np.ndarray]]:
    try:
        if path.suffix == ".csv":
            yield from _of_csv(path)
        elif path.suffix == ".vec":
            yield from _of_vec(path)
        elif path.suffix == ".npy":
            yield from _of_npy(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                yield from ((name, file[name]) for name in file.files)
        else:
            yield from _of_safetensors(path)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        said = (str(fault).strip().splitlines() or [type(fault).__name__])[0][:160]
        raise BadInput(f"{path}: cannot be read as vectors ({said}); expected {_EXPECTED}") from fault


def _of_csv(path: Path) -> Iterator[tuple[str, Sequence[float]]]:
    for number, row in enumerate(csv.reader(io.StringIO(text_of(path)))):
        if not row:
            continue
        try:
            yield row[0], [float(cell) for cell in row[1:]]
        except ValueError:
            if number:  # the first line may be a heading
                raise


def _of_vec(path: Path) -> Iterator[tuple[str, Sequence[float]]]:
    for number, line in enumerate(text_of(path).splitlines()):
        word, *cells = line.split()
        if number or len(cells) != 1:  # the first line may count words and numbers
            yield word, [float(cell) for cell in cells]


def _of_npy(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    names = [line.strip() for line in text_of(path.with_suffix(".txt")).splitlines() if line.strip()]
    table = np.load(path, allow_pickle=False)
    if table.ndim != 2 or len(table) != len(names):
        raise ValueError(f"shape {table.shape} for {len(names)} phrases in {path.with_suffix('.txt').name}")
    yield from zip(names, table, strict=True)


def _of_safetensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    raw = path.read_bytes()
    try:
        parts: Mapping[str, np.ndarray] = load(raw)
    except SafetensorError as fault:
        raise ValueError(str(fault)) from fault
    size = int.from_bytes(raw[:8], "little")
    # Names are kept in the order of the header, not in that of the reader.
    yield from ((name, parts[name]) for name in json.loads(raw[8 : 8 + size]) if name != "__metadata__")
