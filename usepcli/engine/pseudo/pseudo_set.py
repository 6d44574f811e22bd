"""Pseudo-mixtures with their sources, on disk: the sources of many mixtures change places, as they do in training.

    q'[b, n] = q[Pi[n, b], n],   x'[b] = sum_n q'[b, n]          (Tzinis et al. 2022; Saijo & Ogawa 2023, section 2.2)

with q the sources of a batch of mixtures: a model's strongest outputs, adding up to the mixture, or references. The
shuffles are those of usepcli.dsp.shuffle. Everything drawn comes from counters, so that any run gives the same set.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from usepcli import guard
from usepcli.audio import io
from usepcli.data.batch import Example, collate
from usepcli.data.items import Reader
from usepcli.data.manifest import Manifest, Row
from usepcli.data.sampling import rng, torch_seed
from usepcli.dsp import shuffle
from usepcli.engine.pseudo.plan import SUBTYPES, Group, Settings, least, plan, rows_of
from usepcli.engine.pseudo.shuffled_folder import COLUMNS, WAV, ShuffledFolder
from usepcli.engine.pseudo.sources import Listed, Separated, Sources
from usepcli.engine.shards import Shard, State
from usepcli.errors import BadInput, MissingDependency
from usepcli.report.progress import progress
from usepcli.weights import cards, reach

LEVEL = 0.1  # rms of a mixture that was brought to one level, where int16 recordings of speech usually lie
SILENT = "silent"
_CUT, _SHUFFLE = 1, 3  # what is drawn; 2 is the plan


@dataclass
class Shuffled:
    """What a set holds; `kept` counts pseudo-mixtures of an earlier run, `residual_db` is relative to the mixtures."""

    out: Path
    sources: int
    rate: int
    mixtures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    turned_down: int = 0
    silent: int = 0
    averaged: int = 0  # files of several channels that were read now, whose mean was taken
    unusable: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    mebibytes: float = 0.0
    residual_db: float | None = None
    share: str = ""  # what came of a share, for a person

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "manifest": io.show(self.out / Manifest.FILE),
            "mixtures": self.mixtures,
            "sources": self.sources,
            "rate": self.rate,
            "hours": round(self.seconds / 3600, 4),
            "turned_down": self.turned_down,
            "silent": self.silent,
            "unusable": len(self.unusable),
            "kept": self.kept,
            **({"MiB": self.mebibytes} if self.mebibytes else {}),
        }


def remix_set(
    manifest: Manifest,
    out: Path,
    settings: Settings,
    *,
    model: str | None = None,
    device: str = "auto",
    threads: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    share: Shard | None = None,
    merge: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Shuffled:
    """Write the pseudo-mixtures of a set, their sources, manifest.csv, remix.csv and remix.json into the folder `out`.

    With `model` the sources are its outputs, else the manifest's references. Safe to stop and to call again: what is
    finished stays. share: its batches alone, and no manifest.  merge: make nothing, BadInput where batches are missing.
    `check` is called between pseudo-mixtures, and may raise. UsageError for settings that do not fit the set,
    OutputError where `out` holds something else.
    """
    settings.check(model is not None)
    kept = rows_of(manifest, settings.split)
    card: dict[str, Any] = {}
    sources: Sources
    if model is None:
        sources = Listed(kept, settings.normalize, settings.residual)
    else:
        settings = replace(settings, residual=False)  # a model's outputs leave nothing
        path = reach.find_model(model)
        facts, digest = cards.read_card(path)
        card = {"name": facts.name, "licence": facts.licence, "sha256": digest}
        sources = Separated.load(path, settings.n_remix, settings.normalize, device, threads)
    groups = plan(kept, settings, sources.n_src)
    folder = ShuffledFolder(out, _facts(kept, settings, sources, card), share)
    folder.refuse_input(manifest)
    folder.check(overwrite)
    if dry_run:
        return _planned(kept, share.of(groups) if share else groups, sources, settings, out)
    try:
        folder.claim(overwrite, merge)
        return _fill(kept, groups, sources, settings, folder, merge, quiet, check)
    finally:
        folder.release()


def _facts(manifest: Manifest, settings: Settings, sources: Sources, card: dict[str, Any]) -> dict[str, Any]:
    """Return what decides about the bits that are written; all else may change between two runs."""
    rows = "\n".join(map(repr, manifest.rows))
    return {
        "settings": asdict(settings),
        "manifest": str(manifest.path.resolve()),
        "mixtures": hashlib.sha256(rows.encode("utf-8", "surrogateescape")).hexdigest(),
        "model": card,
        "rate": sources.rate,
        "sources": sources.n_src,
        "level": _level(sources),
    }


def _level(sources: Sources) -> float:
    return LEVEL if sources.even else 1.0


def shuffled(sources: Tensor, settings: Settings, draw: torch.Generator) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return sources (B, R, T) in other places, and of each its mixture (B, R) and its number there (B, R)."""
    batch, n_src = sources.shape[:2]
    outputs = torch.arange(n_src).repeat(batch, 1)
    if settings.channel_shuffle:
        outputs = shuffle.channels(batch, n_src, draw)
        sources = sources[torch.arange(batch)[:, None], outputs]
    order = shuffle.draw(settings.kind, batch, n_src, draw)
    outputs = shuffle.apply(outputs[..., None], order)[..., 0]
    return shuffle.apply(sources, order), order.T.numpy(), outputs.numpy()


def _fill(
    manifest: Manifest,
    groups: Sequence[Group],
    sources: Sources,
    settings: Settings,
    folder: ShuffledFolder,
    merge: bool,
    quiet: bool,
    check: Callable[[], None],
) -> Shuffled:
    sizes = {group.number: len(group.rows) for group in groups}
    done = folder.finished(sizes)
    share = folder.share
    mine = share.of(groups) if share else groups
    state = State("batches", {group.number: n for n, group in enumerate(groups)}, done, folder.shared_out())
    if merge:
        state.refuse_gaps(folder.path)
    summary = Shuffled(folder.path, sources.n_src, sources.rate)
    summary.kept = sum(not row["reason"] for group in mine for row in done.get(group.number, ()))
    todo = [group for group in mine if group.number not in done]
    reader = Reader(manifest, sources.rate, settings.seconds)
    with progress(total=sum(len(group.rows) for group in todo), desc="remix", unit="mixture", quiet=quiet) as bar:
        for group in todo:
            made = []
            for line in _make(group, reader, sources, settings, folder.path, summary):
                made.append(line)
                check()
            folder.add(made)
            done[group.number] = [{name: str(value) for name, value in row.items()} for row in made]
            bar.update(len(group.rows))
    if isinstance(sources, Listed) and sources.mixture_power:
        ratio = sources.residual_power / sources.mixture_power
        summary.residual_db = 10 * math.log10(ratio) if ratio else -math.inf
    rows = [row for group in mine for row in done[group.number]]
    _count(summary, rows)
    if share:
        done.update(folder.others(sizes))  # the other shares went on
        summary.share = state.told(share, len(todo))
        return summary
    if not summary.mixtures:
        raise BadInput(f"{manifest.path}: every pseudo-mixture is silent; look with `usep prepare-data --check`")
    if not folder.complete:
        _finish(folder, rows, summary)
    return summary


def _finish(folder: ShuffledFolder, rows: list[dict[str, str]], summary: Shuffled) -> None:
    """Write the tables of a set that is there, and its record."""
    folder.gather(rows)
    facts = {key: value for key, value in summary.facts().items() if key not in ("manifest", "sources", "rate", "kept")}
    table = Manifest(
        [_row(row, summary) for row in rows if not row["reason"]], folder.path, folder.path / Manifest.FILE
    )
    table.write()
    folder.finish({"results": facts, "tables": {Manifest.FILE: table.extent}})


def _make(
    group: Group, reader: Reader, sources: Sources, settings: Settings, out: Path, summary: Shuffled
) -> Iterator[dict[str, Any]]:
    """Write the pseudo-mixtures of one group; yield their lines for remix.csv, and one for each unusable mixture."""
    blank = {**dict.fromkeys(COLUMNS, ""), "batch": group.number, "round": group.round + 1, "split": group.split}
    used, examples, bad = _read(group, reader, settings, sources.with_sources)
    if not group.round:  # further rounds read the same files
        summary.averaged += sum(reader.averaged(row, sources.with_sources) for row in used)
    yield from ({**blank, "id": name, "reason": reason} for name, reason in bad)
    if len(used) < least(settings.kind, sources.n_src):
        raise BadInput(f"{len(bad)} of {len(group.rows)} mixtures of one batch cannot be used: {bad[0][1]}")
    draw = torch.Generator().manual_seed(torch_seed(settings.seed, group.number, _SHUFFLE))
    moved, items, outputs = shuffled(sources(collate(examples)), settings, draw)
    for b, waves in enumerate(moved.numpy()):
        rows = [used[i] for i in items[b]]
        name = re.sub(r"[^\w.-]", "_", group.split) or "mix"
        line = {
            **blank,
            "id": f"{name}_{group.round + 1}_{group.first + b:05d}",
            "frames": waves.shape[1],
            "origin": " + ".join(row.id for row in rows),
            "outputs": " ".join(str(k + 1) for k in outputs[b]),
            "speakers": _speakers(rows, outputs[b]) if sources.with_sources else "",
            "licence": " + ".join(dict.fromkeys(row.licence for row in rows if row.licence)),
        }
        if not waves.any():
            yield {**line, "reason": SILENT}
            continue
        yield {**line, "gain_db": write(out / WAV / line["id"], waves, sources.rate, settings.subtype, _level(sources))}


def _read(
    group: Group, reader: Reader, settings: Settings, with_sources: bool
) -> tuple[list[Row], list[Example], list[tuple[str, str]]]:
    """Return the usable mixtures of a group, their audio, and of each other one its id and why it is of no use."""
    used, examples, bad = list[Row](), list[Example](), list[tuple[str, str]]()
    for i in group.rows:
        row = reader.manifest.rows[i]
        try:
            if settings.seconds:
                item = reader.segment(row, rng(settings.seed, group.round, i, _CUT), with_sources)
            else:
                item = reader.whole(row, with_sources)
            examples.append(Example(row.id, item.mix, item.sources))
            used.append(row)
        except Exception as error:
            bad.append((row.id, str(guard.fault(error, row.id, (MissingDependency,)))))
    return used, examples, bad


def write(folder: Path, waves: np.ndarray, rate: int, subtype: str, level: float = 1.0) -> float:
    """Write sources (R, T) times level as s1.wav .. and their sum as mix.wav, last; return the gain in dB, mostly 0.

    One gain for all keeps them within full scale, for floating point too: who reads it expects that. Integer samples
    of the sources add up to those of the mixture exactly.
    """
    waves = waves.astype(np.float64) * level
    peak = max(np.abs(waves).max(), np.abs(waves.sum(0)).max())
    gain = min(1.0, (1 - (len(waves) + 1) / 2**15) / peak)  # what is left takes up rounding
    waves = waves * gain
    if bits := SUBTYPES[subtype]:
        waves = np.rint(waves * 2.0 ** (bits - 1)) / 2.0 ** (bits - 1)
    else:
        waves = waves.astype(np.float32)
    for k, wave in enumerate(waves):
        io.write(folder / f"s{k + 1}.wav", wave, rate, subtype, overwrite=True)
    io.write(folder / "mix.wav", waves.sum(0, dtype=np.float64), rate, subtype, overwrite=True)
    return round(20 * math.log10(gain), 3)


def _speakers(rows: Sequence[Row], outputs: np.ndarray) -> str:
    """Return the talkers of references, in the manifest's form; '' where one of them is not known."""
    names = []
    for row, k in zip(rows, outputs, strict=True):
        named = len(row.speakers) == len(row.sources) and k < len(row.speakers)
        names.append(row.speakers[k] if named else "")
    return ";".join(names) if all(names) else ""


def _row(line: dict[str, str], summary: Shuffled) -> Row:
    """Return a line of remix.csv as a row of manifest.csv."""
    folder = f"{WAV}/{line['id']}"
    return Row(
        id=line["id"],
        split=line["split"],
        mixture=f"{folder}/mix.wav",
        sources=tuple(f"{folder}/s{k + 1}.wav" for k in range(summary.sources)),
        sample_rate=summary.rate,
        frames=int(line["frames"]),
        n_src=summary.sources,
        speakers=tuple(name for name in line["speakers"].split(";") if name),
        origin=line["origin"],
        licence=line["licence"],
    )


def _count(summary: Shuffled, lines: Sequence[dict[str, str]]) -> None:
    for line in lines:
        if line["reason"] == SILENT:
            summary.silent += 1
        elif line["reason"]:
            summary.unusable[line["id"]] = line["reason"]
        else:
            summary.mixtures[line["split"]] = summary.mixtures.get(line["split"], 0) + 1
            summary.seconds += int(line["frames"]) / summary.rate
            summary.turned_down += float(line["gain_db"]) < 0


def _planned(manifest: Manifest, groups: Sequence[Group], sources: Sources, settings: Settings, out: Path) -> Shuffled:
    """Return what would be made."""
    summary = Shuffled(out, sources.n_src, sources.rate)
    for group in groups:
        lengths = [manifest.rows[i].frames / max(manifest.rows[i].sample_rate, 1) for i in group.rows]
        summary.mixtures[group.split] = summary.mixtures.get(group.split, 0) + len(group.rows)
        summary.seconds += len(group.rows) * (settings.seconds or max(lengths))
    samples = summary.seconds * sources.rate * (sources.n_src + 1)
    summary.mebibytes = round(samples * (SUBTYPES[settings.subtype] or 32) / 8 / 2**20, 1)
    return summary
