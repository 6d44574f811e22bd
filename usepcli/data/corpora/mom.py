"""Sums of two mixtures of a prepared set, each asked for by its whole caption: test sets for which no source is known.

The mixtures themselves are the references (Mahmud et al. 2024, on AudioCaps).  No sound is written: a row lists both
mixtures, and is their sum.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from usepcli.audio.io import Info, show
from usepcli.data.corpora.base import Bad, Corpus, probe, some
from usepcli.data.manifest import Manifest, Row
from usepcli.data.partners import partners
from usepcli.data.rows import bare
from usepcli.errors import BadInput, ConfigError


class _Two(NamedTuple):
    name: str
    rows: tuple[Row, Row]


class Moms(Corpus):
    """Pairs of captioned mixtures of the validation and test splits of a manifest; its training is left out.

    seeds: numbers, joined by ','; each deals every mixture of a split into pairs once, of mixtures that share no
    phrase, no class and no recording.  test_list: the ids of two mixtures in each row, in place of pairs of the test.
    """

    def __init__(self, seeds: str = "0", test_list: str = "", licence: str = "", limit: int = 0) -> None:
        if not re.fullmatch(r"\d+(,\d+)*", seeds):
            raise ConfigError(f"--seeds {seeds}: numbers joined by commas, as 0,1,2, were expected")
        self.seeds, self.test_list, self.licence, self.limit = [*map(int, seeds.split(","))], test_list, licence, limit
        self.bad: list[Bad] = []

    def scan(self, root: Path) -> list[Row]:
        """List the sums of the manifest at root; paths relative to root, or to its folder."""
        listed = Manifest.read(root)
        rows = [row for row in listed.rows if row.split in ("valid", "test")]
        if not rows:
            raise BadInput(f"{show(listed.path)}: no row of split valid or test, of which sums are made")
        told = [row for row in rows if row.caption and row.mixture and row.start is None]
        if not told:
            raise BadInput(f"{show(listed.path)}: {rows[0].id} has no caption; sums are asked for by captions")
        self.bad += [Bad(row.id, "no caption, or no whole file as mixture") for row in rows if row not in told]
        base = root if root.is_dir() else root.parent
        heads = probe(base, (str(listed.resolve(row.mixture)) for row in told), self.bad)
        told = [row for row in told if str(listed.resolve(row.mixture)) in heads]
        if self.test_list:
            two = [
                *self._listed(told, base, heads, listed),
                *self._dealt([row for row in told if row.split == "valid"], heads, listed),
            ]
        else:
            two = [*self._dealt(told, heads, listed)]
        if not two:
            raise BadInput(f"{show(listed.path)}: no two of {len(told)} captioned mixtures can be added up")
        kept = set(some([one.name for one in two], self.limit))
        return [self._row(one, listed, heads, base.resolve()) for one in two if one.name in kept]

    def remarks(self) -> list[str]:
        """Say what the scores of such a set mean."""
        return ["each item is the sum of two mixtures, and each of these is asked for by its whole caption"]

    def _listed(self, rows: Sequence[Row], base: Path, heads: dict[str, Info], listed: Manifest) -> Iterator[_Two]:
        table = base / self.test_list if (base / self.test_list).is_file() else Path(self.test_list)
        known = {row.id: row for row in rows}
        for line, cells in bare(table):
            names = [cell.strip() for cell in cells if cell.strip()]
            found = [known[name] for name in names if name in known]
            kinds = {(head.rate, head.channels) for row in found for head in [heads[str(listed.resolve(row.mixture))]]}
            fault = ""
            if len(names) != 2:
                fault = f"{len(names)} ids, two were expected"
            elif len(found) < 2:
                lost = next(name for name in names if name not in known)
                fault = f"{lost} is no captioned mixture of the manifest"
            elif len(kinds) > 1:
                fault = f"(rate, channels) {' and '.join(map(str, sorted(kinds)))} cannot be added up"
            if fault:
                self.bad.append(Bad(f"{table.name}:{line}", fault))
            else:
                yield _Two(f"test_{line:05d}", (found[0], found[1]))

    def _dealt(self, rows: Sequence[Row], heads: dict[str, Info], listed: Manifest) -> Iterator[_Two]:
        """Yield the pairs of every seed and split, of one rate and number of channels each."""
        kinds: dict[tuple[str, int, int], list[Row]] = {}
        for row in rows:
            head = heads[str(listed.resolve(row.mixture))]
            kinds.setdefault((row.split, head.rate, head.channels), []).append(row)
        for seed in self.seeds:
            counts: dict[str, int] = {}
            for split, *kind in sorted(kinds):
                own = kinds[split, kind[0], kind[1]]
                rng = np.random.default_rng(np.random.SeedSequence([seed, 0x303, split == "test", *kind]))
                for first, second in partners([_named(row) for row in own], rng.permutation(len(own)).tolist()):
                    n = counts[split] = counts.get(split, -1) + 1
                    yield _Two(f"{split}_s{seed}_{n:05d}", (own[first], own[second]))

    def _row(self, two: _Two, listed: Manifest, heads: dict[str, Info], base: Path) -> Row:
        head = [heads[str(listed.resolve(row.mixture))] for row in two.rows]
        places = tuple(os.path.relpath(listed.resolve(row.mixture), base) for row in two.rows)
        captions = tuple(" ".join(row.caption.replace(";", ",").split()) for row in two.rows)
        origin, licence = (_joined(getattr(row, name) for row in two.rows) for name in ("origin", "licence"))
        return Row(
            two.name, two.rows[0].split, "", places, sample_rate=head[0].rate, frames=max(one.frames for one in head),
            n_src=2, queries=captions, label="mom", origin=origin, licence=licence or self.licence,
        )  # fmt: skip


def _joined(texts: Iterable[str]) -> str:
    """Return what several rows name, each once; a row joins its own by ' + '."""
    return " + ".join(dict.fromkeys(part for text in texts for part in text.split(" + ") if part))


def _named(row: Row) -> frozenset[str]:
    """Return what tells that two mixtures share a sound: phrases, classes, and the recording itself."""
    classes = (f"class {name}" for name in row.label.split(";") if row.label)
    return frozenset([*(phrase.text.casefold() for phrase in row.phrases), *classes, f"file {row.mixture}"])
