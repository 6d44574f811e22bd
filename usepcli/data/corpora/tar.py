"""Sets in tar files as WebDataset writes them: the members of one name up to its first dot are one sample.

    000123.mix.flac  000123.s1.flac  000123.s2.flac  000123.noise.flac   a mixture and what it was made of
    000123.flac (or .wav ...)                                            a mixture alone
    000123.json      what is known of it: id, split, text, caption, label, speakers, queries, licence, origin
    000123.txt, .cls                                                     what was said, and the kind of item

The layouts of folders are known in a tar, too: `x/mix.wav` with `x/s1.wav`, `mix/x.wav` with `s1/x.wav`. Tars lie on
this machine or at addresses (https://, s3:// ...); headers are looked at once, and nothing is unpacked.
"""

from __future__ import annotations

import glob
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from usepcli import guard
from usepcli.audio import raws, remote, tars
from usepcli.audio.io import AUDIO_SUFFIXES, Info, show
from usepcli.audio.resample import length_after
from usepcli.data.corpora import by_time
from usepcli.data.corpora.base import Bad, Corpus, probe, some, split_of, split_word
from usepcli.data.manifest import Phrase, Row
from usepcli.errors import BadInput, InputNotFound, MissingDependency, UsepError
from usepcli.versions import need

_PART = re.compile(r"(?P<mix>mix|mixture|mixtures|noisy)|(?P<source>s\d+)|(?P<noise>noise)", re.IGNORECASE)
_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?=[.}])")
_MOST_TARS = 1_000_000
_MOST_WORDS = 1 << 20  # bytes of a member that says something
_TEXTS = ("id", "split", "text", "caption", "label", "origin", "licence")
_LISTS = ("speakers", "queries")


@dataclass
class _Sample:
    """What belongs to one key: member names by part ("mix", "s1", "noise"), and what says something of it."""

    tar: str
    key: str
    parts: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)


class Tar(Corpus):
    """Samples of tar files: one, a folder of them, a pattern such as 'data/{000..099}.tar' or 'data/*.tar', or URLs.

    Splits are named by the samples' json, by the folder or the first word of a tar's name (train-000.tar), or dealt
    out by seed in `split_ratios`.
    """

    patterns = True

    def __init__(
        self,
        split_ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        licence: str = "",
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        self.split_ratios, self.licence, self.limit, self.seed = split_ratios, licence, limit, seed
        self.bad: list[Bad] = []
        self.said: list[str] = []
        self.found: dict[str, tars.Index] = {}

    def scan(self, root: Path) -> list[Row]:
        """List the samples of all tars; paths count from the folder of root, or are whole."""
        rows: list[Row] = []
        missing: UsepError | None = None
        for tar in some(listed(root), self.limit):
            name = _relative(tar, root)
            try:
                rows += self._rows(tar, name)
            except Exception as error:
                fault = guard.fault(error, tar, (MissingDependency,))
                missing = missing or (fault if isinstance(fault, InputNotFound) else None)
                self.bad.append(Bad(name, guard.reason(error, tar)))
        if not rows and missing:
            raise missing
        if not rows and self.bad:
            raise BadInput(f"{show(self.bad[0].path)}: {self.bad[0].reason} (nothing else was found in {_shown(root)})")
        keep = set(some([str(i) for i in range(len(rows))], self.limit))
        rows = [row for i, row in enumerate(_renamed(rows)) if str(i) in keep]
        rows, self.said = by_time.deal(rows, self.split_ratios, self.seed, [row.id for row in rows])
        return rows

    def remarks(self) -> list[str]:
        """Return what a person should know of the splits."""
        return self.said

    def keep(self, folder: Path) -> None:
        """Write where the members lie beside the tables of a folder, so that no training looks through the tars."""
        for name, found in self.found.items():
            tars.save(found, tars.kept(folder, name))

    def _rows(self, tar: str, name: str) -> list[Row]:
        with _here(tar) as place:
            found = tars.index(place)
            self.found[name] = found
            self.bad += [Bad(f"{name}/{member}", f"{why}, passed over") for member, why in found.passed]
            if found.fault:
                self.bad.append(Bad(name, found.fault))
            everyone = _samples(found, name)
            for sample in everyone:
                self._refuse_stretch(sample, place)
            samples = [sample for sample in everyone if sample.parts]
            heads = self._heads(place, name, samples)
            rows = []
            for sample in samples:
                try:
                    row = self._row(sample, heads, place)
                except Exception as error:
                    self.bad.append(Bad(f"{name}/{sample.key}", guard.reason(error, f"{name}/{sample.key}")))
                else:
                    rows += [row] if row else []
        return rows

    def _refuse_stretch(self, sample: _Sample, place: str) -> None:
        """Raise BadInput for a sample that is a part of a recording, which lies with another sample."""
        if ".json" in sample.words:
            text = _text(place, sample.words[".json"])
            said = _object(text) if '"start"' in text else {}
            if said.get("start") is not None and "frames" in said:
                raise BadInput(
                    f"{sample.key} is a part of a long recording (start {said['start']}), and only the manifest.csv "
                    "that was written with these tars knows of which; use that, or make tars of what it was cut from"
                )

    def _heads(self, place: str, name: str, samples: list[_Sample]) -> dict[str, Info]:
        wanted = [part for one in samples for part in ([one.parts["mix"]] if "mix" in one.parts else _sources(one))]
        bad: list[Bad] = []
        heads = probe(Path(place), wanted, bad)
        self.bad += [Bad(f"{name}/{one.path}", one.reason.replace(place, name)) for one in bad]
        return heads

    def _row(self, sample: _Sample, heads: dict[str, Info], place: str) -> Row | None:
        """Return the row of a sample; None where its header could not be read, which was said."""
        sources = _sources(sample)
        files = [sample.parts["mix"]] if "mix" in sample.parts else sources
        if not files:
            raise BadInput("noise alone, a mixture or sources were expected")
        if not all(file in heads for file in files):
            return None
        said = _words(sample, place)
        rate = heads[files[0]].rate
        stem = PurePosixPath(sample.tar).name.removesuffix(tars.SUFFIX)
        here = split_of(sample.tar) or split_word(re.split(r"[-_.]", stem)[0]) or split_of(f"{sample.key}/")
        split = said.pop("split", "")

        def path(part: str) -> str:
            return f"{sample.tar}/{part}"

        row: dict[str, Any] = {
            "id": sample.key,
            "split": split_word(split) or split or here,
            "mixture": path(sample.parts["mix"]) if "mix" in sample.parts else "",
            "sources": tuple(map(path, sources)),
            "noise": path(sample.parts["noise"]) if "noise" in sample.parts else "",
            "sample_rate": rate,
            "frames": max(length_after(heads[file].frames, heads[file].rate, rate) for file in files),
            "n_src": len(sources),
            "licence": self.licence,
        }
        return Row(**row | said)


def listed(root: Path) -> list[str]:
    """Return the tars that a name, a folder, a pattern or an address stands for; InputNotFound for none."""
    text = remote.address(root) or os.fspath(root)
    names = expanded(text)
    if not remote.address(text):
        names = [found for name in names for found in _on_disk(name)]
    if not names:
        raise InputNotFound(
            f"{_shown(root)}: no tar file there; name one, a folder of them, or 'data/{{000..099}}.tar'"
        )
    return names


def _shown(root: Path) -> str:
    return show(remote.address(root) or root)


def expanded(text: str) -> list[str]:
    """Return the names that braces stand for, as a shell would; BadInput for too many."""
    if "{" not in text or os.path.lexists(text):
        return [text]
    many = BadInput(f"{show(text)}: stands for more than {_MOST_TARS} files; name fewer at a time")
    ranges = [abs(int(last) - int(first)) + 1 for first, last in _RANGE.findall(text)]
    if math.prod(ranges) > _MOST_TARS:  # before any of them is made
        raise many
    braces = need(show(text), "shards", "braceexpand")
    try:
        names = list(itertools.islice(braces.braceexpand(text), _MOST_TARS + 1))
    except ValueError as fault:
        raise BadInput(f"{show(text)}: {fault}; expected braces as in 'data/{{000..099}}.tar'") from fault
    if len(names) > _MOST_TARS:
        raise many
    return names


def _on_disk(name: str) -> list[str]:
    if os.path.isdir(name):
        return sorted(
            os.path.join(folder, file)
            for folder, _, files in os.walk(name)
            for file in files
            if tars.is_tar(file) and not file.startswith(".")
        )
    if not os.path.lexists(name) and glob.has_magic(name):
        return sorted(found for found in glob.glob(name, recursive=True) if tars.is_tar(found))
    if not tars.is_tar(name):
        raise BadInput(f"{show(name)}: no .tar by its name; packed ones (.tar.gz, .tgz ...) are to be unpacked first")
    return [name]


def _relative(tar: str, root: Path) -> str:
    """Return a tar's path from the folder that a table's paths count from, or whole where it lies elsewhere."""
    if remote.address(tar):
        return tar
    base = root if root.is_dir() else root.parent
    if base.is_dir() and Path(tar).is_relative_to(base):
        return str(Path(tar).relative_to(base))
    return os.path.abspath(tar)


@contextmanager
def _here(tar: str) -> Iterator[str]:
    """Give the path of a tar on this machine: its own, or that of a copy that goes when the block ends."""
    if not remote.address(tar):
        yield tar
        return
    with remote.copied(tar, named=True) as file:
        yield file.name


def _samples(found: tars.Index, tar: str) -> list[_Sample]:
    """Return the samples of a tar, in the order of their first members."""
    samples: dict[str, _Sample] = {}
    for name in found.places:
        key, part, suffix = _parsed(name)
        sample = samples.setdefault(key, _Sample(tar, key))
        if suffix in AUDIO_SUFFIXES:
            sample.parts.setdefault(part, name)
        elif suffix in (".json", ".txt", ".cls"):
            sample.words.setdefault(suffix, name)
    for sample in samples.values():  # a single sound is the sample, whatever it is called
        if len(sample.parts) == 1 and "noise" not in sample.parts:
            sample.parts = {"mix": next(iter(sample.parts.values()))}
    return list(samples.values())


def _parsed(name: str) -> tuple[str, str, str]:
    """Return a member's key, the part that it is of its sample, and its suffix."""
    pure = PurePosixPath(name)
    stem, _, ending = pure.name.partition(".")
    words = ending.lower().split(".")
    suffix = f".{words[-1]}"
    if len(words) > 1:
        return str(pure.with_name(stem)), _part(words[0]), suffix
    if suffix in AUDIO_SUFFIXES and _PART.fullmatch(stem) and len(pure.parts) > 1:
        return str(pure.parent), _part(stem), suffix
    if len(pure.parts) > 1 and _PART.fullmatch(pure.parent.name):
        return str(pure.parent.parent / stem), _part(pure.parent.name), suffix
    return str(pure.with_name(stem)), "mix", suffix


def _part(word: str) -> str:
    found = _PART.fullmatch(word)
    return "mix" if found and found["mix"] else word.lower()


def _sources(sample: _Sample) -> list[str]:
    """Return the members that hold sources s1, s2 and so on, in their order."""
    numbers = sorted((int(part[1:]), part) for part in sample.parts if re.fullmatch(r"s\d+", part))
    return [sample.parts[part] for _, part in numbers]


def _words(sample: _Sample, place: str) -> dict[str, Any]:
    """Return what a sample's members say of it, as fields of a row; BadInput where it is not of its kind."""
    said: dict[str, Any] = {}
    for suffix, key in ((".txt", "text"), (".cls", "label")):
        if suffix in sample.words:
            said[key] = " ".join(_text(place, sample.words[suffix]).split())
    if ".json" in sample.words:
        try:
            found = json.loads(_text(place, sample.words[".json"]))
        except (ValueError, RecursionError) as fault:
            raise BadInput(f"its json cannot be read ({fault})") from fault
        said |= _fields(found)
    return said


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # told where the sample becomes a row
        return {}
    return found if isinstance(found, dict) else {}


def _fields(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BadInput('its json is no object, as in {"text": "..."}')
    found = {"licence": found.get("license", ""), "text": found.get("transcript", ""), **found}
    said: dict[str, Any] = {}
    for key in _TEXTS:
        value = found.get(key)
        if isinstance(value, bool | int | float):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise BadInput(f"its json has {key} of another kind than a text")
        if value:
            said[key] = " ".join(value.split())
    for key in _LISTS:
        value = found.get(key) or []
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(one, str) and ";" not in one for one in value):
            raise BadInput(f"its json has {key} of another kind than a list of texts without ';'")
        if value:
            said[key] = tuple(value)
    try:
        phrases = tuple(Phrase(str(text), float(weight)) for text, weight in found.get("phrases") or ())
    except (TypeError, ValueError) as fault:
        raise BadInput("its json has phrases of another kind than pairs of a text and a weight") from fault
    return said | ({"phrases": phrases} if phrases else {})


def _text(place: str, name: str) -> str:
    with raws.open_raw(f"{place}/{name}") as file:
        data = file.read(_MOST_WORDS + 1)
    if len(data) > _MOST_WORDS:
        raise BadInput(f"{name} holds more than {_MOST_WORDS} bytes of text")
    return data.decode("utf-8", "replace").strip("\0 \r\n\ufeff")


def _renamed(rows: list[Row]) -> list[Row]:
    """Return rows with ids that differ: where two tars number alike, the tar's name comes first."""
    counts = Counter(row.id for row in rows)
    found = []
    for row in rows:
        if counts[row.id] > 1:
            tar, _, _ = (row.mixture or row.sources[0]).partition(f"{tars.SUFFIX}/")
            row = replace(row, id=f"{tar}/{row.id}")
        found.append(row)
    return found
