"""What a run's lists held when it was started, in a few bytes each, so that another start can tell what has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from usepcli.audio.formats import AUDIO_SUFFIXES
from usepcli.data import echoes
from usepcli.data.lazy import Lazy
from usepcli.data.manifest import Manifest, Pool
from usepcli.data.sheet import BLOCK

Mark = dict[str, Any]


def marks(data: Any) -> tuple[dict[str, Mark], list[Any]]:
    """Return the mark of each list of a profile's `data`, by the key that names it, and the tables; errors of reading.

    A mark has the digest of the whole, and rows and digest of what is trained and of what is validated on.  Whoever
    holds the tables spares the next reader a look at the files: a million rows take seconds.
    """
    found: dict[str, Mark] = {}
    tables: list[Any] = []
    lists: list[tuple[str, str, type[Manifest | Pool]]] = []
    if data.manifest:
        lists.append(("data.manifest", data.manifest, Manifest))
    if data.mixing == "dynamic":
        lists += [(f"data.pool[{number}]", pool, Pool) for number, pool in enumerate(data.pool)]
        noise = Path(data.noise)
        if data.noise and (noise.suffix == ".csv" or (noise / Pool.FILE).is_file()):
            lists.append(("data.noise", data.noise, Pool))
        elif data.noise:
            found["data.noise"] = _folder(noise)
        if data.rooms:
            found["data.rooms"] = _folder(echoes.place(Path(data.rooms)))
    for key, place, kind in lists:
        kind = Manifest if Path(place).name == Manifest.FILE else kind  # a pool of a manifest's sources
        table = kind.read(place)
        learned = kind is Pool or key != "data.manifest" or data.mixing == "fixed"
        parts = {"train": data.train_split} if learned else {}
        parts |= {"valid": data.valid_split} if key == "data.manifest" else {}
        told = {part: _of(table.split(split).rows) for part, split in parts.items()}
        found[key] = {"digest": _of(table.rows)["digest"], **told}
        tables.append(table)
    return found, tables


def changes(before: Mapping[str, Mark], now: Mapping[str, Mark]) -> tuple[list[str], list[str]]:
    """Return in words what has changed of what is trained on, and what else has; what was not marked is not told."""
    learned, other = [], []
    for key in now.keys() & before.keys():
        then, here = before[key], now[key]
        if _other(then, here, "train"):
            learned.append(f"{key}: {_told(then, here, 'train', 'training')}")
        if _other(then, here, "valid"):
            other.append(f"{key}: {_told(then, here, 'valid', 'validation')}: scores from here on are of other items")
        elif not _other(then, here, "train") and then.get("digest") != here.get("digest"):
            other.append(f"{key}: the file has changed since the run began, what is learned from has not")
    return sorted(learned), sorted(other)


def _other(then: Mark, now: Mark, part: str) -> bool:
    return part in then and part in now and then[part] != now[part]


def _told(then: Mark, now: Mark, part: str, what: str) -> str:
    before, here = then[part].get("rows"), now[part].get("rows")
    if before == here:
        return f"the {here} rows of {what} are others than the run began with"
    return f"{before} rows of {what} when the run began, {here} now"


def _of(rows: Any) -> Mark:
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(rows, Lazy):
        sheet, which = rows.sheet, rows.which
        digest.update(repr(sheet.columns).encode("utf-8", "surrogateescape"))
        # Neighbours in the file go in together, with the line ends between them.
        edges = np.flatnonzero(np.diff(which) != 1) + 1
        firsts, lasts = which[np.append(0, edges)[: len(which)]], which[np.append(edges, len(which))[: len(which)] - 1]
        for begin, end in zip(sheet.begins[firsts].tolist(), sheet.ends[lasts].tolist(), strict=True):
            for at in range(begin, end, BLOCK):
                digest.update(sheet.text.part(at, min(at + BLOCK, end)))
            digest.update(b"\n")
    else:
        for row in rows:
            digest.update(f"{row!r}\n".encode("utf-8", "surrogateescape"))
    return {"rows": len(rows), "digest": digest.hexdigest()}


def _folder(place: Path) -> Mark:
    names = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    digest = hashlib.blake2b("\n".join(names).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return {"digest": digest, "train": {"rows": len(names), "digest": digest}}
