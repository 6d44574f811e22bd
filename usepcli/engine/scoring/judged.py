"""A judge asked about the sources of a manifest, one row for each of them (measures: engine/scoring/judging.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from usepcli.data.words import fault_of
from usepcli.engine.journal import Part
from usepcli.engine.scoring import channels
from usepcli.engine.scoring.evaluate import gathered
from usepcli.engine.scoring.reading import Reading, why
from usepcli.engine.scoring.scoring import Signals, blank_row
from usepcli.errors import BadInput
from usepcli.profile.schema import JUDGED

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest, Row
    from usepcli.encoders.base import Judge
    from usepcli.models.audio_text import AudioText

Rows = list[dict[str, Any]]
ALONE = "no other phrase in its mixture"


def scored(
    judge: Judge | AudioText | None,
    manifest: Manifest,
    phrases: Sequence[str],
    how: str = "each",
    part: Part | None = None,
    say: Callable[[str], None] = lambda line: None,
    track: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, total: items,
) -> Rows:
    """Return the rows of all items, in the manifest's order; what is in `part` is not asked again.

    judge: None where `part` has everything.  phrases: all among which a source finds its own.  how: the channels that
    are heard, one of items.CHANNELS; of several the mean cosine counts.
    """
    reading, rows, part = Reading(manifest, 0, False, how, say), manifest.rows, part or Part()
    left = part.left(len(rows))
    if left:
        assert judge is not None
        with torch.no_grad():
            read = judge.read(phrases)
        for n in track(left, len(left)):
            part.add(n, _asked(judge, read, reading, rows[n], phrases))
    return gathered(part, [row.id for row in rows])


def _asked(judge: Judge | AudioText, read: Tensor, reading: Reading, row: Row, phrases: Sequence[str]) -> Rows:
    """Return the rows of one item, without values where it cannot be read or has no phrases."""
    try:
        fault = fault_of(row.queries, len(row.sources)) if row.queries else "no queries"
        if fault:
            raise BadInput(f"{row.id}: {fault}")
        signals = reading(row)
        return _rows(
            signals, row.queries, _cosines(judge, read, signals), phrases, float(torch.as_tensor(judge.scale).detach())
        )
    except Exception as error:
        reason = why(error, row.id)
    names = [f"s{k + 1}" for k in range(len(row.sources))]
    return [blank_row(row.id, name, len(names), tuple(JUDGED), reason) | {"query": "", "nearest": ""} for name in names]


@torch.no_grad()
def _cosines(judge: Judge | AudioText, read: Tensor, signals: Signals) -> Tensor:
    """Return (1 + K, U): how the mixture and the sources fit every phrase, means over channels."""
    assert signals.mix is not None and signals.rate is not None
    waves = torch.from_numpy(channels.split(signals.ref)).float()  # (K, C, T)
    mix = torch.from_numpy(channels.split(signals.mix[None])).float()
    both = torch.cat([mix, waves])
    heard = judge.hear(both.flatten(0, 1).to(read.device), signals.rate)
    return (heard @ read.T).cpu().double().unflatten(0, both.shape[:2]).mean(1)


def _rows(
    signals: Signals, queries: Sequence[str], cosines: Tensor, phrases: Sequence[str], scale: float
) -> list[dict[str, Any]]:
    """Return one row per source from cosines (1 + K, U) of the mixture and the sources with all phrases."""
    place = {phrase: k for k, phrase in enumerate(phrases)}
    at = [place[query] for query in queries]
    sounds = [bool(where.any()) for where in channels.sounding(channels.split(signals.ref))]
    mix, own = cosines[0], cosines[1:]
    found = []
    for k, query in enumerate(queries):
        row = blank_row(signals.id, signals.sources[k], len(at), tuple(JUDGED), signals.note)
        row |= {"query": query, "nearest": ""}
        found.append(row)
        if not sounds[k]:
            row["reason"] = "; ".join(filter(None, [signals.note, "silent source"]))
            continue
        fits = own[k]
        if not (fits.isfinite().all() and mix.isfinite().all()):
            raise BadInput(f"{signals.id}: the judge gives numbers that are not finite")
        rank = int((fits >= fits[at[k]]).sum())  # of equals the own one comes last
        row |= {
            "nearest": phrases[int(fits.argmax())], "top-1": 100.0 * (rank <= 1), "top-5": 100.0 * (rank <= 5),
            "nats": round(float(torch.logsumexp(scale * fits, 0) - scale * fits[at[k]]), 6),
            "cos-own": round(float(fits[at[k]]), 6), "cos-mixture": round(float(mix[at[k]]), 6),
        }  # fmt: skip
        row |= _beside(k, at, [j for j in range(len(at)) if at[j] != at[k] and sounds[j]], mix, own)
        if row["own-phrase"] != row["own-phrase"]:
            row["reason"] = "; ".join(filter(None, [signals.note, ALONE]))
    return found


def _beside(k: int, at: Sequence[int], others: Sequence[int], mix: Tensor, own: Tensor) -> dict[str, float]:
    """Return the measures of source k beside those that have other phrases, nan without any."""
    names = ("own-phrase", "above-mixture", "above-others", "cos-others")
    if not others:
        return dict.fromkeys(names, math.nan)
    phrases, mine = [at[j] for j in others], at[k]
    theirs = own[list(others), mine]
    values = (
        100.0 * bool(own[k, mine] > own[k, phrases].max()), 100.0 * bool(own[k, mine] > mix[mine]),
        100.0 * bool(own[k, mine] > theirs.max()), round(float(theirs.mean()), 6),
    )  # fmt: skip
    return dict(zip(names, values, strict=True))
